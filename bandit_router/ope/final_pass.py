"""The second and third pass over a log: tune thresholds, then take values and intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bandit_router.ope import moments
from bandit_router.ope.blocks import Source
from bandit_router.ope.bootstrap import Resamples
from bandit_router.ope.confidence_sequence import CUTS, LowerSums, controlled_terms
from bandit_router.ope.contributions import Contributions
from bandit_router.ope.diagnostics import PREDICTION_EDGES, Bins
from bandit_router.ope.first_pass import FirstLook, Prepared, prepared
from bandit_router.ope.options import Options
from bandit_router.ope.registry import ESTIMATORS
from bandit_router.ope.reward_model import ForwardModel
from bandit_router.ope.targets import Target, checked_pmf
from bandit_router.ope.thresholds import slope
from bandit_router.types import FloatArray, IntArray

# (target, outcome, estimator)
Key = tuple[str, str, str]


@dataclass
class OutcomeTally:
    """What is summed for one target and outcome beside the estimators' own columns.

    by_segment: (5, S) rounds, Σ of DR's terms and of their squares, Σ and Σ² of weights.
    """

    segment_count: int

    def __post_init__(self) -> None:
        self.observed = 0
        self.total = self.square = self.largest = self.weighted = 0.0
        self.missing_weight = self.all_weight = self.missing_value = 0.0
        self.most_seen = 1.0
        self.by_segment = np.zeros((5, self.segment_count))

    def add(self, rounds: Contributions, segment: IntArray, dr: FloatArray) -> None:
        """Count some rounds."""
        weight = rounds.weight * rounds.seen
        gone = rounds.weight * (rounds.seen == 0.0)
        self.observed += int((rounds.seen > 0.0).sum())
        self.total += float(weight.sum())
        self.square += float(weight @ weight)
        self.largest = max(self.largest, float(weight.max(initial=0.0)))
        self.most_seen = max(self.most_seen, float(rounds.seen.max(initial=0.0)))
        self.missing_weight += float(gone.sum())
        self.all_weight += float(rounds.weight.sum())
        self.missing_value += float(gone @ rounds.predicted)
        for row, values in enumerate((None, dr, dr * dr, weight, weight * weight)):
            self.by_segment[row] += np.bincount(segment, values, minlength=self.segment_count)

    @property
    def effective_sample_size(self) -> float:
        """(Σw)² / Σw² over rounds whose outcome is known."""
        return self.total**2 / self.square if self.square > 0.0 else 0.0


@dataclass
class BoundTally:
    """Sums of the bounds for one target and a bounded outcome, below and above, with the
    control variate (dr) and without (ips)."""

    rounds: int
    alpha: float

    def __post_init__(self) -> None:
        cuts = {"dr": np.array(CUTS), "ips": np.zeros(1)}
        self.lower = {n: LowerSums(c, self.rounds, self.alpha) for n, c in cuts.items()}
        self.upper = {n: LowerSums(c, self.rounds, self.alpha) for n, c in cuts.items()}
        self.weighted_sum = self.lost_sum = 0.0

    def add(
        self,
        each: Contributions,
        shares: FloatArray,
        pmf: FloatArray,
        arm: IntArray,
        weights: FloatArray,
        predicted: FloatArray,
    ) -> None:
        """Count the next rounds. shares: (m,) outcome and predicted: (m, K), both in [0, 1]."""
        weight = each.weight * each.seen
        for sums, outcome, guess in (
            (self.lower, shares, predicted),
            (self.upper, 1.0 - shares, 1.0 - predicted),
        ):
            terms = controlled_terms(weight, outcome, weights, pmf, guess, arm, np.array(CUTS))
            sums["dr"].add(terms)
            sums["ips"].add(terms[:, :1])
        self.weighted_sum += float(weight @ shares)
        self.lost_sum += float(weight @ (1.0 - shares))


@dataclass(frozen=True, slots=True)
class Sums:
    """All that the third pass leaves.

    places: where each estimator's rows lie, by key. totals: (R,) their sums over the log.
    """

    places: Mapping[Key, slice]
    totals: FloatArray
    resamples: Resamples
    outcomes: Mapping[tuple[str, str], OutcomeTally]
    bounds: Mapping[tuple[str, str], BoundTally]
    model: Bins


def tuning_pass(
    source: Source,
    targets: Mapping[str, Target],
    options: Options,
    look: FirstLook,
    on_block: Callable[[], None],
) -> dict[Key, float]:
    """The threshold of every estimator that has one, by target and outcome."""
    tunable = [ESTIMATORS[name] for name in options.estimators if ESTIMATORS[name].thresholds]
    sums: dict[Key, FloatArray] = {
        (target, outcome, estimator.name): np.zeros((2, len(estimator.thresholds)))
        for target in targets
        for outcome in options.names
        for estimator in tunable
    }
    if not tunable:
        return {}
    for part in prepared(source, options, look, on_block):
        for target, pmf in _pmfs(part, targets):
            for outcome in options.names:
                each = part.contributions(outcome, pmf, look.tallies[target].bound)
                largest = float(each.weight.max(initial=0.0))
                for estimator in tunable:
                    tally = sums[target, outcome, estimator.name]
                    same: tuple[float, float] | None = None
                    for g, threshold in enumerate(estimator.thresholds):
                        # No threshold above the largest weight changes anything.
                        cuts = estimator.name == "dr_os" or threshold < largest
                        if same is None or cuts:
                            (column,) = estimator.terms(each, threshold).columns
                            found = float(column.sum()), float(column @ column)
                            same = same or found
                            tally[:, g] += found
                        else:
                            tally[:, g] += same
    tuned: dict[Key, float] = {}
    for key, (total, square) in sums.items():
        mean = total / look.n
        error = np.sqrt(np.maximum(square / look.n - mean * mean, 0.0) / look.n)
        best = slope(mean, error)
        tuned[key] = ESTIMATORS[key[2]].thresholds[best]
    return tuned


def final_pass(
    source: Source,
    targets: Mapping[str, Target],
    options: Options,
    look: FirstLook,
    tuned: Mapping[Key, float],
    on_block: Callable[[], None],
    on_part: Callable[[Prepared], None],
) -> Sums:
    """All sums that values and intervals follow from. on_part is handed every block as well."""
    places: dict[Key, slice] = {}
    filled = 0
    for target in targets:
        for outcome in options.names:
            for name in options.summed:
                size = moments.row_count(ESTIMATORS[name].column_count)
                places[target, outcome, name] = slice(filled, filled + size)
                filled += size
    bounded = {}
    if set(options.methods) - {"bootstrap"}:
        bounded = {name: ends for name in options.names if (ends := options.bounds_of(name))}
    tail = 0.5 * (1.0 - options.level)
    sums = Sums(
        places=places,
        totals=np.zeros(filled),
        resamples=Resamples(options.seed, options.resamples, filled),
        outcomes={
            (target, outcome): OutcomeTally(len(look.segments))
            for target in targets
            for outcome in options.names
        },
        bounds={
            (target, outcome): BoundTally(look.n, tail) for target in targets for outcome in bounded
        },
        model=Bins(PREDICTION_EDGES),
    )
    forward = ForwardModel(list(bounded.values()), len(look.arms), 1 + look.scaling.shift.size)
    for part in prepared(source, options, look, on_block):
        rounds = part.block.rounds
        rows = np.empty((filled, len(rounds)))
        guesses = []
        if bounded:
            guesses = forward.predict(part.block, part.design, [part.values[n] for n in bounded])
        _add_model_bins(sums.model, part)
        for target, pmf in _pmfs(part, targets):
            for outcome in options.names:
                each = part.contributions(outcome, pmf, look.tallies[target].bound)
                for name in options.summed:
                    key = (target, outcome, name)
                    threshold = tuned.get(key, np.inf)
                    made = ESTIMATORS[name].terms(each, threshold).columns
                    moments.fill(rows[places[key]], made)
                dr = each.predicted_target + each.weight * each.seen * each.residual
                sums.outcomes[target, outcome].add(each, rounds.segment, dr)
            for (outcome, (low, high)), guess in zip(bounded.items(), guesses, strict=True):
                each = part.contributions(outcome, pmf, 1.0)
                seen = np.maximum(part.seen[outcome], 1.0)[:, None]
                ratio = np.zeros_like(pmf)
                np.divide(pmf, rounds.pmf, out=ratio, where=rounds.pmf > 0.0)
                sums.bounds[target, outcome].add(
                    each,
                    (np.where(each.seen > 0.0, each.outcome, low) - low) / (high - low),
                    pmf,
                    rounds.arm,
                    ratio * seen,
                    (guess - low) / (high - low),
                )
        on_part(part)
        sums.totals[:] += rows.sum(axis=1)
        sums.resamples.add(part.block.index, rows)
    return sums


def _pmfs(part: Prepared, targets: Mapping[str, Target]) -> list[tuple[str, FloatArray]]:
    rounds = part.block.rounds
    return [(name, checked_pmf(target, rounds)) for name, target in targets.items()]


def _add_model_bins(bins: Bins, part: Prepared) -> None:
    if "reward" not in part.values:
        return
    rounds = part.block.rounds
    predicted = part.predicted["reward"][np.arange(len(rounds)), rounds.arm]
    known = part.seen["reward"] > 0.0
    residual = rounds.reward[known] - predicted[known]
    bins.add(predicted[known], rounds.reward[known], residual * residual)
