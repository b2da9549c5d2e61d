"""Set noise and prior scales by the data's own evidence (type-II maximum likelihood).

The marginal likelihood of a Bayesian linear regression needs nothing but the sums that the
posterior keeps, so hyper-parameters are learned without going back to the rows.
Source: Bishop 2006, section 3.5; MacKay 1992.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray


def log_evidence(sums: Sums, prior: Prior) -> float:
    """log p(y | X, prior) of the rows behind ``sums``; forgotten rows count by their weight."""
    precision = sums.gram * (1.0 / prior.noise)
    np.einsum("ii->i", precision)[:] += prior.precision
    factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1)
    if failed:
        return -np.inf
    right = prior.precision * prior.mean + sums.moment / prior.noise
    half, _ = lapack.dtrtrs(factor, right, lower=1)
    fit = float(half @ half) - float(prior.precision @ (prior.mean * prior.mean))
    log_det = 2.0 * float(np.log(np.einsum("ii->i", factor)).sum())
    twice = (
        float(np.log(prior.precision).sum())
        - log_det
        + fit
        - sums.square / prior.noise
        - sums.weight * float(np.log(2.0 * np.pi * prior.noise))
    )
    return 0.5 * twice


def fit_prior(
    heads: Sequence[Sums],
    groups: FloatArray,
    start: Prior,
    *,
    bias_sd: float,
    least_noise: float,
) -> Prior:
    """One prior for all heads: pooled bias mean, one scale per feature group, one noise.

    groups: (d,) group index per weight; group 0 is the bias, whose scale is ``bias_sd`` and
    whose mean is the pooled mean of y. Scales are searched in logs around weak hyper-priors
    (a log-normal of sd 2 about a scale of 0.3 noise sds), which hold them where the data say
    nothing: with few rows the scales stay small, and the context is hardly used.
    """
    seen = [sums for sums in heads if sums.weight > 0]
    weight = sum(sums.weight for sums in seen)
    if weight <= 0:
        return start
    pooled = sum(sums.total for sums in seen) / weight
    # Spread within heads, not between them: arms of different quality are not noise.
    within = sum(sums.square - sums.total**2 / sums.weight for sums in seen) / weight
    spread = max(within, least_noise)
    index = groups.astype(np.int64)
    group_count = int(index.max())
    mean = np.zeros(index.size)
    mean[0] = pooled

    def prior_at(theta: FloatArray) -> Prior:
        noise = max(spread * float(np.exp(theta[0])), least_noise)
        scales = np.concatenate(([bias_sd], np.sqrt(spread) * 0.3 * np.exp(theta[1:])))
        return Prior(mean=mean, precision=1.0 / scales[index] ** 2, noise=noise)

    def loss(theta: FloatArray) -> float:
        prior = prior_at(theta)
        fit = sum(log_evidence(sums, prior) for sums in seen)
        return -fit + 0.125 * float(theta @ theta)

    start_theta = np.concatenate(([-0.1], np.full(group_count, -1.0)))
    found = minimize(
        loss,
        start_theta,
        method="L-BFGS-B",
        bounds=[(-3.0, 1.0)] + [(-6.0, 4.0)] * group_count,
        options={"maxiter": 25},
    )
    return prior_at(np.asarray(found.x))
