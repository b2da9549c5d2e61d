"""SNIPS: IPS divided by the weights' own mean."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def snips_terms(rounds: Contributions, threshold: float) -> Terms:
    """Σ w·r / Σ w: stays within the range of the outcomes, and does not change with their zero.

    Source: Swaminathan & Joachims 2015.
    """
    weight = rounds.weight * rounds.seen
    return Terms(weighted=weight * rounds.outcome, normaliser=weight)


SNIPS = Estimator("snips", snips_terms, column_count=2)
