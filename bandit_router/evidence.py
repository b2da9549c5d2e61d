"""How likely rows are under a prior, from nothing but the sums that a posterior keeps.

Source: Bishop 2006, section 3.5.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from bandit_router.posterior import Prior, Sums


def log_evidence(sums: Sums, prior: Prior) -> float:
    """log p(y | X, prior) of the rows behind ``sums``; forgotten rows count by their weight."""
    precision = sums.gram * (1.0 / prior.noise)
    np.einsum("ii->i", precision)[:] += prior.precision
    factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1)
    if failed:
        return -np.inf
    right = prior.precision * prior.mean + sums.moment / prior.noise
    mean, _ = lapack.dpotrs(factor, right, lower=1)
    twice = (
        float(np.log(prior.precision).sum())
        - 2.0 * float(np.log(np.einsum("ii->i", factor)).sum())
        + float(right @ mean)
        - float(prior.precision @ (prior.mean * prior.mean))
        - sums.square / prior.noise
        - sums.weight * float(np.log(2.0 * np.pi * prior.noise))
    )
    return 0.5 * twice
