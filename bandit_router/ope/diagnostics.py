"""What the weights, the propensities and the model say of how far an estimate can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.ope.rounds import LoggedRounds
from bandit_router.types import FloatArray, IntArray

# Edges of probability bins, finer where exploration lives.
PROBABILITY_EDGES = np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0])
PREDICTION_EDGES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True, slots=True)
class Support:
    """How well one arm, or one segment, is covered. target_share: mean target probability.
    decisions: rounds it was chosen in. least_probability: of the log, where the target might
    choose it (1 where it never would). unsupported: mean target probability where the log's
    is 0."""

    name: str
    decisions: int
    target_share: float
    effective_sample_size: float
    least_probability: float
    unsupported: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Rounds with a prediction in [low, high): what was predicted and what came, on average.
    z: their difference in standard errors."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float
    z: float


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Of one target on one log.

    expected_effective_sample_size: as the logged pmfs imply, whatever was drawn.
    weight_bound: the most that any weight could have been by the logged pmfs, whatever was
    drawn: what the exploration floor implies. mean_weight should be one within a few of its
    standard errors. propensity_calibration: logged probabilities against how often arms were
    drawn. model_calibration: predicted against observed reward. warnings: in words.
    """

    n: int
    effective_sample_size: float
    expected_effective_sample_size: float
    largest_weight: float
    weight_bound: float
    mean_weight: float
    mean_weight_error: float
    unsupported: float
    arms: tuple[Support, ...]
    segments: tuple[Support, ...]
    propensity_calibration: tuple[Bin, ...]
    model_calibration: tuple[Bin, ...]
    warnings: tuple[str, ...]

    @property
    def spread_factor(self) -> float:
        """See ``spread_factor``, of this target's weights."""
        return spread_factor(self.effective_sample_size, self.expected_effective_sample_size)


def spread_factor(size: float, expected_size: float) -> float:
    """By how much a resample of the weights seen is too narrow: errors grow with the root of
    E[w²], and where fewer heavy weights came than the logged pmfs let expect, the weights seen do
    not show it. At least one. size, expected_size: effective, seen and expected."""
    return float(np.sqrt(max(size / expected_size, 1.0))) if expected_size else 1.0


@dataclass
class Bins:
    """Counts by bin of a prediction. Filled block by block."""

    edges: FloatArray

    def __post_init__(self) -> None:
        self._sums = np.zeros((4, self.edges.size - 1))

    def add(self, predicted: FloatArray, observed: FloatArray, variance: FloatArray) -> None:
        """Count flat arrays of predictions, outcomes and the outcomes' own variance."""
        place = np.clip(np.searchsorted(self.edges, predicted, side="right") - 1, 0, None)
        np.minimum(place, self.edges.size - 2, out=place)
        for row, values in enumerate((np.ones_like(predicted), predicted, observed, variance)):
            self._sums[row] += np.bincount(place, values, minlength=self.edges.size - 1)

    def result(self) -> tuple[Bin, ...]:
        """The bins that hold anything."""
        count, predicted, observed, variance = self._sums
        return tuple(
            Bin(
                low=float(self.edges[i]),
                high=float(self.edges[i + 1]),
                count=int(count[i]),
                predicted=float(predicted[i] / count[i]),
                observed=float(observed[i] / count[i]),
                # One draw's variance on top: a bin of certain events has none of its own.
                z=float((observed[i] - predicted[i]) / np.sqrt(variance[i] + 1.0)),
            )
            for i in range(count.size)
            if count[i]
        )


class WeightTally:
    """Sums of one target's weights. Filled block by block."""

    def __init__(self, arms: Sequence[str], segments: Sequence[str]) -> None:
        self._arms, self._segments = tuple(arms), tuple(segments)
        self.n = 0
        self.total = self.square = self.largest = self.bound = self.unsupported = 0.0
        self.expected_square = 0.0
        self._by_arm = np.zeros((5, len(arms)))
        self._by_segment = np.zeros((5, len(segments)))
        self._least = np.ones(len(arms))
        self._least_in_segment = np.ones(len(segments))

    def add(self, rounds: LoggedRounds, pmf: FloatArray) -> None:
        """Count some rounds under the target's (m, K) pmf."""
        rows = np.arange(len(rounds))
        weight = pmf[rows, rounds.arm] / rounds.propensity
        bound, lost = weight_bounds(rounds.pmf, pmf), np.where(rounds.pmf > 0.0, 0.0, pmf)
        self.n += len(rounds)
        self.total += float(weight.sum())
        self.square += float(weight @ weight)
        self.largest = max(self.largest, float(weight.max(initial=0.0)))
        self.bound = max(self.bound, float(bound.max(initial=0.0)))
        square = np.zeros_like(pmf)
        np.divide(pmf * pmf, rounds.pmf, out=square, where=rounds.pmf > 0.0)
        self.expected_square += float(square.sum())
        lost_by_round = lost.sum(axis=1)
        self.unsupported += float(lost_by_round.sum())
        wanted = np.where(pmf > 0.0, rounds.pmf, 1.0)
        np.minimum(self._least, wanted.min(axis=0, initial=1.0), out=self._least)
        np.minimum.at(self._least_in_segment, rounds.segment, wanted.min(axis=1, initial=1.0))
        for tally, index, share, gone in (
            (self._by_arm, rounds.arm, pmf.sum(axis=0), lost.sum(axis=0)),
            (self._by_segment, rounds.segment, None, None),
        ):
            size = tally.shape[1]
            tally[0] += np.bincount(index, minlength=size)
            tally[1] += np.bincount(index, weight, minlength=size)
            tally[2] += np.bincount(index, weight * weight, minlength=size)
            tally[3] += np.bincount(index, minlength=size) if share is None else share
            tally[4] += np.bincount(index, lost_by_round, minlength=size) if gone is None else gone

    @property
    def effective_sample_size(self) -> float:
        """(Σw)² / Σw²: so many rounds of the target's own would be as good."""
        return self.total**2 / self.square if self.square > 0.0 else 0.0

    @property
    def expected_effective_sample_size(self) -> float:
        """n² / Σᵢ E[wᵢ²]: what the size would be on average over draws, which whole logged pmfs
        tell exactly. Where heavy weights could have come and have not, the size of the weights
        seen is too hopeful, and so are intervals made of them."""
        return self.n**2 / self.expected_square if self.expected_square > 0.0 else 0.0

    @property
    def mean_error(self) -> float:
        """Standard error of the mean weight."""
        variance = max(self.square / self.n - (self.total / self.n) ** 2, 0.0)
        return float(np.sqrt(variance / self.n))

    @property
    def neediest_arm(self) -> str:
        """The arm that would help most if it were explored more."""
        if self._by_arm[4].sum() > 0.0:
            return self._arms[int(self._by_arm[4].argmax())]
        if self._by_arm[2].sum() > 0.0:
            return self._arms[int(self._by_arm[2].argmax())]
        return self._arms[int(self._by_arm[3].argmax())]

    def supports(self) -> tuple[tuple[Support, ...], tuple[Support, ...]]:
        """Of every arm and of every segment."""
        return (
            _supports(self._arms, self._by_arm, self._least, self.n),
            _supports(self._segments, self._by_segment, self._least_in_segment, self.n),
        )


def weight_bounds(logged: FloatArray, target: FloatArray) -> FloatArray:
    """(m,) the most that each round's weight could have been, whichever arm were drawn; arms
    that could not be drawn are left out."""
    ratio = np.zeros_like(target)
    np.divide(target, logged, out=ratio, where=logged > 0.0)
    return np.asarray(ratio.max(axis=1, initial=0.0))


def add_propensities(bins: Bins, pmf: FloatArray, arm: IntArray) -> None:
    """Count every arm's logged probability against whether it was drawn."""
    drawn = np.zeros_like(pmf)
    drawn[np.arange(arm.size), arm] = 1.0
    # Certain entries say nothing, and would fill the outer bins.
    open_ = (pmf > 0.0) & (pmf < 1.0)
    bins.add(pmf[open_], drawn[open_], (pmf * (1.0 - pmf))[open_])


def words(tally: WeightTally, propensities: Sequence[Bin], model: Sequence[Bin]) -> tuple[str, ...]:
    """What is odd, for a reader who does not look at figures."""
    found = []
    mean = tally.total / tally.n
    error = tally.mean_error
    if error > 0.0 and abs(mean - 1.0) > 4.0 * error and tally.unsupported == 0.0:
        found.append(
            f"weights average {mean:.3f} instead of 1 ({(mean - 1.0) / error:+.1f} standard "
            "errors): the logged probabilities are not those that arms were drawn with"
        )
    found += [
        f"arms logged with probability {each.predicted:.3f} were drawn in "
        f"{each.observed:.3f} of {each.count} cases ({each.z:+.1f} standard errors)"
        for each in propensities
        if abs(each.z) > 4.0
    ]
    found += [
        f"where the reward model says {each.predicted:.2f}, {each.observed:.2f} came "
        f"({each.count} rounds): do not trust dm"
        for each in model
        if each.count >= 100 and abs(each.observed - each.predicted) > 0.1
    ]
    if tally.bound > 4.0 * max(tally.largest, 1.0):
        found.append(
            f"a weight of {tally.bound:.0f} was possible and the largest seen is "
            f"{tally.largest:.1f}: rare draws that would matter have not come yet"
        )
    return tuple(found)


def _supports(
    names: Sequence[str], tally: FloatArray, least: FloatArray, n: int
) -> tuple[Support, ...]:
    count, total, square, share, gone = tally
    return tuple(
        Support(
            name=name,
            decisions=int(count[i]),
            target_share=float(share[i] / n),
            effective_sample_size=float(total[i] ** 2 / square[i]) if square[i] else 0.0,
            least_probability=float(least[i]),
            unsupported=float(gone[i] / n),
        )
        for i, name in enumerate(names)
    )
