"""DM, the direct method: believe the model of outcomes."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def dm_terms(rounds: Contributions, threshold: float) -> Terms:
    """The predicted outcome of what the target would have chosen. As wrong as the model is."""
    return Terms(weighted=rounds.predicted_target)


DM = Estimator("dm", dm_terms, unbiased=False)
