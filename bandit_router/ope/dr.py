"""DR: the model's word, corrected by the weighted residuals of the rounds that were seen."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def dr_terms(rounds: Contributions, threshold: float) -> Terms:
    """q̂(target) + w·(r − q̂): unbiased for exact propensities whatever the model, and less
    variable than IPS by as much as the model explains. Source: Dudík et al. 2011.
    """
    return Terms(
        weighted=rounds.weight * rounds.seen * rounds.residual, base=rounds.predicted_target
    )


DR = Estimator("dr", dr_terms)
