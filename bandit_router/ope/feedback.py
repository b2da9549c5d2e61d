"""Outcomes that are missing or late: how often they come, and what it matters if not by chance.

A known outcome stands for 1 / P(known) decisions like it. That holds where, given the arm and
the features, it is chance whether feedback comes; where it may not be, the range says what the
estimate could become. Source: Robins, Rotnitzky & Zhao 1994; pattern mixtures: Little 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bandit_router.ope.rounds import LoggedRounds
from bandit_router.types import FloatArray

# A rate below this is taken for this: its inverse is a weight.
LEAST_RATE = 0.02
# Rounds that the response model is fitted on, evenly spread over the log.
FIT_ROUNDS = 65_536
_NEWTON_STEPS = 12
_RIDGE = 1.0
AGES = 10


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """How often the reward is known: at all, per arm (K), and per tenth of the log by time.

    warnings: rates that fall at the end (feedback still on its way) or differ between arms.
    """

    rate: float
    by_arm: dict[str, float]
    by_age: tuple[float, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The reward's estimate if decisions without feedback were worth ``shift`` less or more
    than like ones with feedback, and at worst (all 0 or all 1).

    missing_share: of the target's decisions, how many have no feedback.
    """

    shift: float
    missing_share: float
    low: float
    high: float
    worst_low: float
    worst_high: float


def sensitivity(
    value: float, missing_share: float, missing_value: float, shift: float
) -> Sensitivity:
    """The range about ``value``. missing_value: what the estimate takes missing rewards for."""

    def at(mean: float) -> float:
        return value + missing_share * (min(max(mean, 0.0), 1.0) - missing_value)

    return Sensitivity(
        shift=shift,
        missing_share=missing_share,
        low=at(missing_value - shift),
        high=at(missing_value + shift),
        worst_low=at(0.0),
        worst_high=at(1.0),
    )


@dataclass
class RateTally:
    """Counts of known rewards. Filled block by block."""

    rounds: int
    arm_count: int

    def __post_init__(self) -> None:
        self._arms = np.zeros((2, self.arm_count))
        self._ages = np.zeros((2, AGES))

    def add(self, start: int, rounds: LoggedRounds) -> None:
        """Count some rounds that begin at place ``start`` of the log."""
        known = np.isfinite(rounds.reward).astype(np.float64)
        age = (start + np.arange(known.size)) * AGES // self.rounds
        for tally, index in ((self._arms, rounds.arm), (self._ages, age)):
            tally[0] += np.bincount(index, minlength=tally.shape[1])
            tally[1] += np.bincount(index, known, minlength=tally.shape[1])

    def report(self, arms: tuple[str, ...]) -> FeedbackReport:
        """The rates; NaN for an arm that was never chosen."""
        with np.errstate(invalid="ignore", divide="ignore"):
            by_arm, by_age = self._arms[1] / self._arms[0], self._ages[1] / self._ages[0]
        rate = float(self._arms[1].sum() / self._arms[0].sum())
        warnings = []
        before = self._ages[:, :-1].sum(axis=1)
        if before[0] > 0 and self._ages[0, -1] > 0 and before[1] > 0:
            usual = before[1] / before[0]
            error = np.sqrt(usual * (1.0 - usual) / self._ages[0, -1]) + 1e-12
            if by_age[-1] < usual - 4.0 * error:
                warnings.append(
                    f"the last tenth of the log has feedback on {by_age[-1]:.0%} of its "
                    f"decisions, the rest on {usual:.0%}: feedback may still be on its way; end "
                    "the log earlier, or wait"
                )
        heard = by_arm[np.isfinite(by_arm)]
        if heard.size and heard.max() > 2.0 * max(float(heard.min()), 1e-9):
            warnings.append(
                "feedback rates differ between arms more than twofold "
                f"({heard.min():.0%} to {heard.max():.0%}): read the sensitivity range"
            )
        return FeedbackReport(
            rate=rate,
            by_arm={name: float(by_arm[k]) for k, name in enumerate(arms)},
            by_age=tuple(float(share) for share in by_age if np.isfinite(share)),
            warnings=tuple(warnings),
        )


def response_design(design: FloatArray, rounds: LoggedRounds) -> FloatArray:
    """(m, D + K) what the response model looks at: features and the arm."""
    arm = np.zeros((design.shape[0], len(rounds.arms)))
    arm[np.arange(design.shape[0]), rounds.arm] = 1.0
    return np.hstack([design, arm])


def fit_response(design: FloatArray, known: FloatArray) -> FloatArray:
    """(D + K,) coefficients of a logistic regression with a light ridge. known: (m,) 0 or 1."""
    coefficients = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        rate = expit(design @ coefficients)
        spread = np.maximum(rate * (1.0 - rate), 1e-6)
        hessian = (design * spread[:, None]).T @ design
        hessian[np.diag_indices_from(hessian)] += _RIDGE
        gradient = design.T @ (known - rate) - _RIDGE * coefficients
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
    return coefficients


def response_rate(design: FloatArray, coefficients: FloatArray) -> FloatArray:
    """(m,) P(known), not below ``LEAST_RATE``."""
    return np.asarray(np.maximum(expit(design @ coefficients), LEAST_RATE))
