"""What every estimator is made of: each round's weight, outcome and predicted outcome.

All estimators here have one form, mean(base) + Σ weighted residual / normaliser, so one piece
of code sums, tunes and resamples them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit_router.types import FloatArray


@dataclass(frozen=True, slots=True)
class Contributions:
    """Some rounds under one target, for one outcome; all (m,).

    weight: target over logged probability of the chosen arm. seen: 1/P(observed) where the
    outcome is known, 0 where it is not. outcome: 0 where not known. predicted: the model's
    outcome of the chosen arm; predicted_target: its mean under the target.
    uniform: numbers in [0, 1), for rejection. weight_bound: no weight of the log's policy can
    be larger, a single number.
    """

    weight: FloatArray
    seen: FloatArray
    outcome: FloatArray
    predicted: FloatArray
    predicted_target: FloatArray
    uniform: FloatArray
    weight_bound: float

    @property
    def residual(self) -> FloatArray:
        """(m,) what the model missed; 0 where the outcome is not known."""
        return np.where(self.seen > 0.0, self.outcome - self.predicted, 0.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """An estimator's value is mean(base) + Σ weighted / Σ normaliser; all (m,).

    base None is zero, normaliser None is one for every round.
    """

    weighted: FloatArray
    base: FloatArray | None = None
    normaliser: FloatArray | None = None

    @property
    def columns(self) -> tuple[FloatArray, ...]:
        """What must be summed: one column; weighted and normaliser, where there is one; before
        them base, where there is one too."""
        if self.normaliser is None:
            return (self.weighted if self.base is None else self.base + self.weighted,)
        if self.base is None:
            return (self.weighted, self.normaliser)
        return (self.base, self.weighted, self.normaliser)


@dataclass(frozen=True, slots=True)
class Estimator:
    """A way to make terms. terms(contributions, threshold) -> Terms.

    thresholds: what is tried, from the least biased (and most variable) on; empty where there
    is nothing to tune. column_count: how many columns the terms have. unbiased: whether the
    value tends to the truth without a true model, so that an interval around it means something.
    untuned: the estimator that this one is at its first threshold.
    """

    name: str
    terms: Callable[[Contributions, float], Terms]
    thresholds: tuple[float, ...] = ()
    column_count: int = 1
    unbiased: bool = True
    untuned: str = ""


def value_of(estimator: Estimator, rounds: Contributions, threshold: float = np.inf) -> float:
    """The estimator's value on rounds in memory; NaN where its weights are all zero."""
    sums = [float(column.sum()) for column in estimator.terms(rounds, threshold).columns]
    count = float(rounds.weight.size)
    if len(sums) == 1:
        return sums[0] / count
    *base, weighted, normaliser = sums
    return sum(base) / count + weighted / normaliser if normaliser else float("nan")
