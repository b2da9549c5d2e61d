"""How to evaluate: which outcomes, estimators and limits, and what utility is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bandit_router.errors import DataError
from bandit_router.ope.estimate import Limits
from bandit_router.ope.registry import ESTIMATORS
from bandit_router.ope.rounds import OUTCOMES, LoggedRounds
from bandit_router.types import FloatArray

METHODS = ("bootstrap", "empirical_bernstein", "clopper_pearson", "confidence_sequence")


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Utility = reward − price_of_dollar · cost_usd − price_of_second · latency_s."""

    price_of_dollar: float = 0.0
    price_of_second: float = 0.0

    @property
    def weights(self) -> FloatArray:
        """(3,) factor of each of ``OUTCOMES``."""
        return np.array([1.0, -self.price_of_dollar, -self.price_of_second])


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    outcomes: of ``OUTCOMES``; ``tradeoff`` adds ``utility``. estimators: names of
    ``ESTIMATORS``. methods: of ``METHODS``; the bootstrap is always there. bounds: the range of
    an outcome in its unit, for the methods that need one; reward's is (0, 1). resamples: of the
    bootstrap, seeded by ``seed``. missing_shift: by how much rewards without feedback may differ
    from those with, for the sensitivity range.
    """

    outcomes: Sequence[str] = OUTCOMES
    tradeoff: Tradeoff | None = None
    estimators: Sequence[str] = tuple(ESTIMATORS)
    methods: Sequence[str] = METHODS
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    level: float = 0.95
    resamples: int = 400
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    missing_shift: float = 0.1

    def __post_init__(self) -> None:
        for name in self.estimators:
            if name not in ESTIMATORS:
                raise DataError(f"no estimator '{name}'; there are {', '.join(ESTIMATORS)}")
        for name in self.methods:
            if name not in METHODS:
                raise DataError(f"no interval method '{name}'; there are {', '.join(METHODS)}")
        for name in self.outcomes:
            if name not in OUTCOMES:
                raise DataError(f"no outcome '{name}'; a log has {', '.join(OUTCOMES)}")
        if not 0.5 <= self.level < 1.0:
            raise DataError(f"level {self.level:g}: an interval's level lies in [0.5, 1)")
        if self.resamples < 2:
            raise DataError(f"resamples {self.resamples}: the bootstrap needs at least 2")

    @property
    def summed(self) -> tuple[str, ...]:
        """The estimators, and those that the tuned ones among them come from."""
        untuned = [ESTIMATORS[name].untuned for name in self.estimators]
        return tuple(dict.fromkeys([*self.estimators, *filter(None, untuned)]))

    @property
    def names(self) -> tuple[str, ...]:
        """The outcomes estimated, utility last."""
        return (*self.outcomes, "utility") if self.tradeoff else tuple(self.outcomes)

    def factors(self, name: str) -> FloatArray:
        """(3,) the outcome as a combination of ``OUTCOMES``."""
        if name == "utility":
            assert self.tradeoff is not None
            return self.tradeoff.weights
        return np.asarray(np.eye(len(OUTCOMES))[OUTCOMES.index(name)])

    def values(self, rounds: LoggedRounds, name: str) -> FloatArray:
        """(m,) the outcome; NaN where any part of it that counts is not known."""
        parts = [
            factor * rounds.outcome(part)
            for part, factor in zip(OUTCOMES, self.factors(name), strict=True)
            if factor
        ]
        return np.asarray(sum(parts))

    def bounds_of(self, name: str) -> tuple[float, float] | None:
        """The range that the outcome cannot leave, or None where nobody said."""
        low = high = 0.0
        known: Mapping[str, tuple[float, float]] = {"reward": (0.0, 1.0), **self.bounds}
        for part, factor in zip(OUTCOMES, self.factors(name), strict=True):
            if not factor:
                continue
            if part not in known:
                return None
            ends = sorted(factor * end for end in known[part])
            low, high = low + ends[0], high + ends[1]
        return low, high
