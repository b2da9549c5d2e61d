"""SNDR: DR whose residuals are divided by the weights' own mean."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def sndr_terms(rounds: Contributions, threshold: float) -> Terms:
    """mean q̂(target) + Σ w·(r − q̂) / Σ w. Source: Thomas & Brunskill 2016."""
    weight = rounds.weight * rounds.seen
    return Terms(weighted=weight * rounds.residual, base=rounds.predicted_target, normaliser=weight)


SNDR = Estimator("sndr", sndr_terms, column_count=3)
