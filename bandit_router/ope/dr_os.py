"""DRos: DR with weights shrunk as an optimistic bound on the error says."""

from __future__ import annotations

import numpy as np

from bandit_router.ope.contributions import Contributions, Estimator, Terms
from bandit_router.ope.thresholds import SHRINKAGES


def dr_os_terms(rounds: Contributions, threshold: float) -> Terms:
    """q̂(target) + λw/(w² + λ)·(r − q̂): DM at λ = 0, DR at λ = ∞. Source: Su et al. 2020."""
    if np.isinf(threshold):
        shrunk = rounds.weight
    else:
        # Where both are zero so is the weight.
        below = np.maximum(rounds.weight * rounds.weight + threshold, np.finfo(np.float64).tiny)
        shrunk = threshold * rounds.weight / below
    return Terms(weighted=shrunk * rounds.seen * rounds.residual, base=rounds.predicted_target)


DR_OS = Estimator("dr_os", dr_os_terms, thresholds=SHRINKAGES, untuned="dr")
