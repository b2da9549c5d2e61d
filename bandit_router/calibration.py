"""Predicted against observed, and what exploring cost, from what was logged of decisions.

Everything here takes (n,) or (n, K) arrays of decisions; NaN stands where nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import BoolArray, FloatArray, IntArray

BINS = 10
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Decisions whose predicted quality lay together, and the mean reward that they got.

    low, high: 95 % interval of the observed mean.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well predictions of one model, or of all, came true.

    error: expected calibration error, mean |predicted − observed| over bins, by their counts.
    bias: mean predicted minus mean observed quality. cost_ratio, latency_ratio: what was paid
    (taken) over what was predicted; 1 is right. None where nothing is known.
    """

    model: str
    count: int
    error: float | None
    bias: float | None
    cost_ratio: float | None
    latency_ratio: float | None
    bins: tuple[CalibrationBin, ...]


def calibration(
    model: str,
    quality: FloatArray,
    reward: FloatArray,
    cost_usd: FloatArray,
    paid_usd: FloatArray,
    latency_s: FloatArray,
    took_s: FloatArray,
) -> Calibration:
    """All (n,), of the chosen model. Bins hold equally many decisions each."""
    known = np.isfinite(reward)
    predicted, observed = quality[known], reward[known]
    bins = _bins(predicted, observed)
    count = predicted.size
    error = sum(b.count * abs(b.predicted - b.observed) for b in bins) / count if count else None
    return Calibration(
        model=model,
        count=count,
        error=error,
        bias=float(predicted.mean() - observed.mean()) if count else None,
        cost_ratio=_ratio(paid_usd, cost_usd),
        latency_ratio=_ratio(took_s, latency_s),
        bins=bins,
    )


@dataclass(frozen=True, slots=True)
class ExplorationCost:
    """What was given up to learn, by the beliefs of the time, over ``decisions`` decisions.

    not_best: share that did not choose the model of the highest expected utility. extra_usd,
    quality_given_up: means per decision of expected dollars more, and expected quality less,
    than that model's; either may be negative. look_usd: dollars paid for forced looks.
    """

    decisions: int
    not_best: float | None
    extra_usd: float | None
    quality_given_up: float | None
    looks: int
    look_usd: float


def exploration_cost(
    arm: IntArray,
    eligible: BoolArray,
    quality: FloatArray,
    cost_usd: FloatArray,
    utility: FloatArray,
    looks: BoolArray,
    paid_usd: FloatArray,
) -> ExplorationCost:
    """arm, looks, paid_usd: (n,); the others (n, K). For decisions that the policy made."""
    n = arm.size
    looked_usd = float(np.nansum(np.where(looks, paid_usd, 0.0)))
    if n == 0:
        return ExplorationCost(0, None, None, None, 0, 0.0)
    best = np.where(eligible, utility, -np.inf).argmax(axis=1)
    rows = np.arange(n)
    return ExplorationCost(
        decisions=n,
        not_best=float((best != arm).mean()),
        extra_usd=float((cost_usd[rows, arm] - cost_usd[rows, best]).mean()),
        quality_given_up=float((quality[rows, best] - quality[rows, arm]).mean()),
        looks=int(looks.sum()),
        look_usd=looked_usd,
    )


def _bins(predicted: FloatArray, observed: FloatArray) -> tuple[CalibrationBin, ...]:
    order = np.argsort(predicted, kind="stable")
    found = []
    for part in np.array_split(order, min(BINS, max(predicted.size, 1))):
        if part.size == 0:
            continue
        mean = float(observed[part].mean())
        # One reward says nothing of its spread: rewards lie in [0, 1], so 0.5 bounds it.
        sd = float(observed[part].std(ddof=1)) if part.size > 1 else 0.5
        half = Z95 * sd / np.sqrt(part.size)
        found.append(
            CalibrationBin(
                predicted=float(predicted[part].mean()),
                observed=mean,
                low=mean - half,
                high=mean + half,
                count=int(part.size),
            )
        )
    return tuple(found)


def _ratio(observed: FloatArray, predicted: FloatArray) -> float | None:
    known = np.isfinite(observed)
    expected = float(predicted[known].sum())
    return float(observed[known].sum()) / expected if expected > 0.0 else None
