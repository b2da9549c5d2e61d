"""IPS: weigh each outcome by how much more often the target would have chosen its arm."""

from __future__ import annotations

from bandit_router.ope.contributions import Contributions, Estimator, Terms


def ips_terms(rounds: Contributions, threshold: float) -> Terms:
    """w·r. Unbiased for exact propensities; its variance grows with the weights.

    Source: Horvitz & Thompson 1952; Strehl et al. 2010.
    """
    return Terms(weighted=rounds.weight * rounds.seen * rounds.outcome)


IPS = Estimator("ips", ips_terms)
