"""Clopper–Pearson on weights: the binomial interval, for outcomes shrunk by the largest weight."""

from __future__ import annotations

from scipy.special import betaincinv


def clopper_pearson(
    weighted_sum: float, rounds: int, weight_bound: float, level: float
) -> tuple[float, float]:
    """Interval for the mean of w·y with y in [0, 1].

    weight_bound: the most that a weight could have been, which the logged pmfs say (that is the
    exploration floor at work); the largest weight seen says nothing of those not seen. Terms
    w·y / bound lie in [0, 1], and of those a coin's tosses spread most, so the binomial interval
    is wide enough. Source: Clopper & Pearson 1934; on weights, as in Vowpal Wabbit.
    """
    successes = min(max(weighted_sum / weight_bound, 0.0), float(rounds))
    tail = 0.5 * (1.0 - level)
    low = float(betaincinv(successes, rounds - successes + 1.0, tail)) if successes > 0.0 else 0.0
    high = 1.0
    if successes < rounds:
        high = float(betaincinv(successes + 1.0, rounds - successes, 1.0 - tail))
    return weight_bound * low, min(weight_bound * high, 1.0)
