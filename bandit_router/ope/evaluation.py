"""Evaluate targets on a log: every estimator, interval and diagnostic, in three passes.

The first pass sums what models and diagnostics need, the second tunes thresholds, the third
takes values and intervals. Each reads the log in fixed blocks, so a file larger than memory
gives the very numbers that arrays do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from bandit_router.ope.blocks import Source, source_of
from bandit_router.ope.bootstrap import studentised_interval
from bandit_router.ope.clopper_pearson import clopper_pearson
from bandit_router.ope.diagnostics import Diagnostics, spread_factor, words
from bandit_router.ope.estimate import Estimate, Refusal, RefusalReason
from bandit_router.ope.feedback import Sensitivity, sensitivity
from bandit_router.ope.final_pass import Key, Sums, final_pass, tuning_pass
from bandit_router.ope.first_pass import FirstLook, Prepared, first_pass
from bandit_router.ope.moments import errors_from_sums, values_from_sums
from bandit_router.ope.options import Options
from bandit_router.ope.refusal import decisions_for, refusal_of, refusal_of_outcome
from bandit_router.ope.registry import ESTIMATORS
from bandit_router.ope.result import Evaluation, SegmentEstimate
from bandit_router.ope.round_values import RoundTerms, RoundValues
from bandit_router.ope.rounds import LoggedRounds
from bandit_router.ope.targets import Target
from bandit_router.types import FloatArray

# Estimators whose terms the bounds are for, by method.
BOUNDED_METHODS: Mapping[str, tuple[str, ...]] = {
    "empirical_bernstein": ("ips", "dr"),
    "clopper_pearson": ("ips",),
    "confidence_sequence": ("ips", "dr"),
}


def evaluate(
    log: LoggedRounds | Source,
    targets: Mapping[str, Target],
    options: Options | None = None,
    *,
    on_block: Callable[[], None] = lambda: None,
) -> dict[str, Evaluation]:
    """Estimate every target's outcomes from the log, or say why that cannot be done.

    log: rounds in memory, or a function that yields them piece by piece, in order, each time
    it is called. A target must not have been learned from the rounds it is evaluated on.
    on_block is called after each block of each of three passes (a fourth, quiet one fits the
    response model). Raises DataError for unknown names or a log that cannot be read.
    """
    return _evaluated(log, targets, options or Options(), on_block, lambda part: None)


def evaluate_by_round(
    log: LoggedRounds | Source,
    targets: Mapping[str, Target],
    options: Options | None = None,
    *,
    on_block: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Evaluation], RoundValues]:
    """``evaluate``, and DR's terms round by round as ``round_values`` gives them, without
    reading the log once more."""
    options = options or Options()
    terms = RoundTerms(targets, options)
    return _evaluated(log, targets, options, on_block, terms.add), terms.values()


def _evaluated(
    log: LoggedRounds | Source,
    targets: Mapping[str, Target],
    options: Options,
    on_block: Callable[[], None],
    on_part: Callable[[Prepared], None],
) -> dict[str, Evaluation]:
    source = source_of(log)
    look = first_pass(source, targets, options, on_block)
    tuned = tuning_pass(source, targets, options, look, on_block)
    sums = final_pass(source, targets, options, look, tuned, on_block, on_part)
    return {target: _Report(target, options, look, tuned, sums).evaluation() for target in targets}


@dataclass(frozen=True, slots=True)
class _Report:
    """One target's sums, on their way to an evaluation."""

    target: str
    options: Options
    look: FirstLook
    tuned: Mapping[Key, float]
    sums: Sums

    def evaluation(self) -> Evaluation:
        tally, look = self.look.tallies[self.target], self.look
        refused = refusal_of(tally, self.options.limits)
        arms, segments = tally.supports()
        propensities, model = look.propensities.result(), self.sums.model.result()
        estimates: list[Estimate] = []
        replicates: dict[tuple[str, str], FloatArray] = {}
        for outcome in self.options.names:
            found = self.sums.outcomes[self.target, outcome]
            why = refused or refusal_of_outcome(
                outcome, tally, found.observed, found.effective_sample_size, self.options.limits
            )
            for name in self.options.estimators:
                replicates[outcome, name] = self._resampled(outcome, name)[0]
                estimates.append(self._bootstrap(outcome, name, why))
                estimates.extend(self._bounds(outcome, name, why))
        return Evaluation(
            target=self.target,
            n=look.n,
            estimates=tuple(estimates),
            segments=tuple(self._segments(refused)),
            diagnostics=Diagnostics(
                n=look.n,
                effective_sample_size=tally.effective_sample_size,
                expected_effective_sample_size=tally.expected_effective_sample_size,
                largest_weight=tally.largest,
                weight_bound=tally.bound,
                mean_weight=tally.total / tally.n,
                mean_weight_error=tally.mean_error,
                unsupported=tally.unsupported / tally.n,
                arms=arms,
                segments=segments,
                propensity_calibration=propensities,
                model_calibration=model,
                warnings=words(tally, propensities, model),
            ),
            feedback=look.rates.report(look.arms),
            sensitivity=self._sensitivity(estimates),
            refused=refused,
            replicates=replicates,
        )

    def _resampled(self, outcome: str, name: str) -> tuple[FloatArray, FloatArray]:
        """(B,) values of the resamples, and their standard errors."""
        resamples = self.sums.resamples
        rows = resamples.sums[:, self.sums.places[self.target, outcome, name]]
        return values_from_sums(rows, resamples.counts), errors_from_sums(rows, resamples.counts)

    def _of_log(self, outcome: str, name: str) -> tuple[float, float]:
        """The value on the log itself, and its standard error."""
        rows = self.sums.totals[None, self.sums.places[self.target, outcome, name]]
        count = np.array([float(self.look.n)])
        return float(values_from_sums(rows, count)[0]), float(errors_from_sums(rows, count)[0])

    def _studentised(self, outcome: str, name: str, size: float) -> tuple[float, float]:
        value, error = self._of_log(outcome, name)
        replicates, errors = self._resampled(outcome, name)
        return studentised_interval(replicates, errors, value, error, self.options.level, size)

    def _estimate(
        self, outcome: str, name: str, method: str, why: Refusal | None
    ) -> dict[str, object]:
        key = (self.target, outcome, name)
        found = self.sums.outcomes[self.target, outcome]
        value, error = self._of_log(outcome, name)
        return {
            "outcome": outcome,
            "estimator": name,
            "method": method,
            "value": float("nan") if why else value,
            "standard_error": float("nan") if why else error,
            "interval": None,
            "level": self.options.level,
            "n": self.look.n,
            "observed": found.observed,
            "effective_sample_size": found.effective_sample_size,
            "largest_weight": found.largest,
            "threshold": self.tuned.get(key),
            "refused": why,
        }

    def _bootstrap(self, outcome: str, name: str, why: Refusal | None) -> Estimate:
        made = self._estimate(outcome, name, "bootstrap", why)
        value = float(made["value"])  # type: ignore[arg-type]
        size = float(made["effective_sample_size"])  # type: ignore[arg-type]
        if name == "replay" and why is None:
            # What is summed second is how many were accepted.
            size = float(self.sums.totals[self.sums.places[self.target, outcome, name]][1])
            # At about 100 accepted rounds a 95 % interval held the truth in 84 % of logs.
            least = self.options.limits.least_accepted
            if size < least:
                made |= {
                    "value": float("nan"),
                    "standard_error": float("nan"),
                    "refused": Refusal(
                        RefusalReason.EFFECTIVE_SAMPLE_SIZE,
                        f"replay accepts {size:.0f} of {self.look.n} decisions, fewer than "
                        f"{least:.0f}; the weighting "
                        "estimators use all of them",
                        more_decisions=decisions_for(self.look.n, size, least),
                    ),
                }
        if made["refused"] is None and ESTIMATORS[name].unbiased and np.isfinite(value):
            low, high = self._studentised(outcome, name, size)
            untuned = ESTIMATORS[name].untuned
            if untuned:
                # Tuning makes a better guess, not a surer one: nobody knows the bias that it
                # brought in, so the interval without it is kept as well.
                plain = self._studentised(outcome, untuned, size)
                low, high = min(low, plain[0]), max(high, plain[1])
            if name != "replay":
                tally = self.look.tallies[self.target]
                spread = spread_factor(
                    tally.effective_sample_size, tally.expected_effective_sample_size
                )
                low, high = value - spread * (value - low), value + spread * (high - value)
            ends = self.options.bounds_of(outcome)
            if ends is not None:
                # What cannot be need not be in the interval; the value itself should.
                low, high = max(low, min(ends[0], value)), min(high, max(ends[1], value))
            made["interval"] = (low, high)
        return Estimate(**made)  # type: ignore[arg-type]

    def _bounds(self, outcome: str, name: str, why: Refusal | None) -> list[Estimate]:
        found = []
        ends = self.options.bounds_of(outcome)
        for method, names in BOUNDED_METHODS.items():
            if name not in names or method not in self.options.methods:
                continue
            refusal = why
            if refusal is None and ends is None:
                refusal = Refusal(
                    RefusalReason.NO_BOUND,
                    f"{method} needs to know between which values {outcome} lies: give its bounds",
                )
            made = self._estimate(outcome, name, method, refusal)
            if refusal is None and ends is not None:
                low, high = self._share_interval(outcome, name, method)
                width = ends[1] - ends[0]
                value = float(made["value"])  # type: ignore[arg-type]
                # The bound's own terms are other than the estimate's; a reader expects it inside.
                made["interval"] = (
                    min(float(ends[0] + width * low), value),
                    max(float(ends[0] + width * high), value),
                )
            found.append(Estimate(**made))  # type: ignore[arg-type]
        return found

    def _share_interval(self, outcome: str, name: str, method: str) -> tuple[float, float]:
        tally = self.sums.bounds[self.target, outcome]
        lower, upper = tally.lower[name], tally.upper[name]
        if method == "confidence_sequence":
            return lower.lower_any_time(), 1.0 - upper.lower_any_time()
        if method == "empirical_bernstein":
            return lower.lower_fixed(), 1.0 - upper.lower_fixed()
        bound = (
            self.look.tallies[self.target].bound
            * self.sums.outcomes[self.target, outcome].most_seen
        )
        low, _ = clopper_pearson(tally.weighted_sum, self.look.n, bound, self.options.level)
        lost, _ = clopper_pearson(tally.lost_sum, self.look.n, bound, self.options.level)
        return low, 1.0 - lost

    def _segments(self, refused: Refusal | None) -> list[SegmentEstimate]:
        found = []
        limits = self.options.limits
        supports = self.look.tallies[self.target].supports()[1]
        for outcome in self.options.names:
            sums = self.sums.outcomes[self.target, outcome].by_segment
            for s, segment in enumerate(self.look.segments):
                n, total, square, weight, weight_square = sums[:, s]
                size = float(weight**2 / weight_square) if weight_square > 0.0 else 0.0
                why = refused
                if why is None and size < limits.least_effective_sample_size:
                    more = decisions_for(int(n), size, limits.least_effective_sample_size)
                    why = Refusal(
                        RefusalReason.EFFECTIVE_SAMPLE_SIZE,
                        f"{int(n)} decisions in {segment} are worth {size:.0f} of the target's "
                        f"own, fewer than {limits.least_effective_sample_size:.0f}",
                        more_decisions=more,
                    )
                value = error = float("nan")
                interval = None
                if why is None:
                    value = float(total / n)
                    error = float(np.sqrt(max(square / n - value * value, 0.0) / n))
                    tail = 0.5 * (1.0 - self.options.level)
                    half = float(stdtrit(size - 1.0, 1.0 - tail)) * error
                    interval = (value - half, value + half)
                found.append(
                    SegmentEstimate(
                        segment=supports[s].name,
                        outcome=outcome,
                        n=int(n),
                        value=value,
                        standard_error=error,
                        interval=interval,
                        effective_sample_size=size,
                        refused=why,
                    )
                )
        return found

    def _sensitivity(self, estimates: list[Estimate]) -> Sensitivity | None:
        """Of DR's reward; None where no feedback is missing, or nothing can be said."""
        for each in estimates:
            if (each.outcome, each.estimator) != ("reward", "dr") or each.refused is not None:
                continue
            tally = self.sums.outcomes[self.target, "reward"]
            if tally.missing_weight == 0.0:
                return None
            return sensitivity(
                each.value,
                tally.missing_weight / tally.all_weight,
                tally.missing_value / tally.missing_weight,
                self.options.missing_shift,
            )
        return None
