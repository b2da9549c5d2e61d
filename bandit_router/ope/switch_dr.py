"""Switch-DR: correct the model only where the weight is small enough to be trusted."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms
from bandit_router.ope.thresholds import WEIGHTS


def switch_dr_terms(rounds: Contributions, threshold: float) -> Terms:
    """q̂(target) + w·1(w ≤ τ)·(r − q̂): DM at τ = 0, DR at τ = ∞. Source: Wang et al. 2017."""
    trusted = rounds.weight * (rounds.weight <= threshold)
    return Terms(weighted=trusted * rounds.seen * rounds.residual, base=rounds.predicted_target)


SWITCH_DR = Estimator("switch_dr", switch_dr_terms, thresholds=WEIGHTS, untuned="dr")
