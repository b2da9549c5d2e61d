"""Replay: keep the rounds that the target might have produced itself, and average them."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def replay_terms(rounds: Contributions, threshold: float) -> Terms:
    """Accept a round with probability weight / bound, then take the mean of what was accepted.

    The accepted rounds are distributed as if the target had chosen; for a uniform log and a
    target without chance it is the round's arm being the target's. Source: Li et al. 2011;
    rejection for a log that is not uniform: Dudík et al. 2012.
    """
    kept = (rounds.uniform * rounds.weight_bound < rounds.weight) * rounds.seen
    return Terms(weighted=kept * rounds.outcome, normaliser=kept)


REPLAY = Estimator("replay", replay_terms, column_count=2)
