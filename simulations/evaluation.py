"""Evaluate target policies on logged traffic: means, differences, segments and hard requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bandit_router.ope import (
    OUTCOMES,
    Limits,
    LoggedRounds,
    Options,
    Refusal,
    RoundValues,
    Target,
    difference,
    evaluate,
    round_values,
)
from bandit_router.ope import Evaluation as TargetEvaluation
from bandit_router.ope.diagnostics import Diagnostics, WeightTally
from bandit_router.ope.refusal import refusal_of
from bandit_router.types import BoolArray, FloatArray, IntArray
from simulations.logs.checks import Dropped
from simulations.logs.rounds import Log
from simulations.means import Mean, mean_of
from simulations.targets import LOGGED, TargetPmf

SLICES = 5
BINS = 40
LEAST_SEGMENT = 100
MOST_SEGMENTS = 12


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target on one log. values: outcome -> DR's mean with interval, absent where refused.

    gains: outcome -> mean difference from what was logged, from the same resamples.
    shares: (K,) mean probability of each arm. refused: why there is nothing at all;
    refusals: outcome -> why there is none of it.
    """

    name: str
    values: Mapping[str, Mean]
    gains: Mapping[str, Mean]
    shares: FloatArray
    diagnostics: Diagnostics
    refused: Refusal | None
    refusals: Mapping[str, Refusal]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All targets on one log, with what the report draws. Frames as in ``ReportContent``."""

    arms: tuple[str, ...]
    decisions: int
    feedback_rate: Mapping[str, float]
    targets: tuple[TargetResult, ...]
    segments: pl.DataFrame
    hard: pl.DataFrame
    hard_gains: pl.DataFrame
    over_time: pl.DataFrame
    shares: pl.DataFrame
    least_propensity: Mapping[str, float]
    log: Log
    dropped: Dropped | None
    segment: str | None
    notes: tuple[str, ...]

    def target(self, name: str) -> TargetResult:
        """The result of a target by its name."""
        return next(target for target in self.targets if target.name == name)

    @property
    def frame(self) -> pl.DataFrame:
        """One row per target and outcome."""
        rows: list[dict[str, Any]] = []
        for target in self.targets:
            for outcome in OUTCOMES:
                mean, gain = target.values.get(outcome), target.gains.get(outcome)
                rows.append(
                    {
                        "target": target.name,
                        "outcome": outcome,
                        "value": mean.value if mean else None,
                        "low": mean.low if mean else None,
                        "high": mean.high if mean else None,
                        "gain": gain.value if gain else None,
                        "gain_low": gain.low if gain else None,
                        "gain_high": gain.high if gain else None,
                        "effective_sample_size": target.diagnostics.effective_sample_size,
                        "largest_weight": target.diagnostics.largest_weight,
                        "refused": _told(target, outcome),
                    }
                )
        return pl.DataFrame(rows, infer_schema_length=None)

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        return {
            "decisions": self.decisions,
            "arms": list(self.arms),
            "feedback_rate": dict(self.feedback_rate),
            "least_propensity": dict(self.least_propensity),
            "left_out": self.dropped.as_json() if self.dropped else None,
            "notes": list(self.notes),
            "targets": [
                {
                    "name": target.name,
                    "refused": {
                        "reason": str(target.refused.reason),
                        "message": target.refused.message,
                        "more_decisions": target.refused.more_decisions,
                        "arm": target.refused.arm,
                    }
                    if target.refused
                    else None,
                    "effective_sample_size": target.diagnostics.effective_sample_size,
                    "largest_weight": target.diagnostics.largest_weight,
                    "expected_effective_sample_size": (
                        target.diagnostics.expected_effective_sample_size
                    ),
                    "unsupported": target.diagnostics.unsupported,
                    "warnings": list(target.diagnostics.warnings),
                    "refused_outcomes": {
                        outcome: refusal.message for outcome, refusal in target.refusals.items()
                    },
                    "shares": dict(zip(self.arms, target.shares.tolist(), strict=True)),
                    **{
                        outcome: {
                            "mean": mean.value,
                            "ci95": [mean.low, mean.high],
                            "against_logged": _gain_json(target.gains.get(outcome)),
                        }
                        for outcome, mean in target.values.items()
                    },
                }
                for target in self.targets
            ],
            "segments": self.segments.to_dicts(),
            "hard": self.hard_gains.to_dicts(),
        }


def evaluate_rounds(
    log: Log,
    targets: Sequence[TargetPmf],
    *,
    limits: Limits | None = None,
    dropped: Dropped | None = None,
    segment: str | None = None,
    notes: Sequence[str] = (),
    on_step: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Every target on the log, doubly robust, or refused with the reason.

    The logging policy itself is always among the results, under the name ``logged``.
    """
    rounds, limits = log.rounds, limits or Limits()
    chosen = [TargetPmf(LOGGED, rounds.pmf)] + [t for t in targets if t.name != LOGGED]
    wanted = {target.name: _as_target(target.pmf) for target in chosen}
    options = Options(estimators=("dr",), limits=limits)
    found = evaluate(rounds, wanted, options)
    each = round_values(rounds, wanted, options)
    rewarded = bool(np.isfinite(rounds.reward).any())
    slices = _slices(each.predicted["reward"].mean(axis=1)) if rewarded else None
    results: list[TargetResult] = []
    told: list[str] = []
    parts: dict[str, list[pl.DataFrame]] = {
        k: [] for k in ("segments", "hard", "hard_gains", "time", "shares")
    }
    for target in chosen:
        result = _result(found[target.name], found[LOGGED], target.pmf)
        results.append(result)
        parts["shares"].append(_shares(target, rounds.arms))
        if "reward" in result.values and slices is not None:
            cut = _Parts(target, rounds, each, limits, told)
            parts["time"].append(_running(target.name, cut.reward))
            parts["hard"].append(_by_slice(cut, slices))
            if target.name != LOGGED and "reward" in result.gains:
                parts["hard_gains"].append(_hard_gain(cut, slices))
                parts["segments"].append(_by_segment(cut))
        on_step()
    rates = found[LOGGED].feedback.by_arm
    return Evaluation(
        arms=rounds.arms,
        decisions=len(rounds),
        feedback_rate={arm: float(np.nan_to_num(rate)) for arm, rate in rates.items()},
        targets=tuple(results),
        segments=_joined(parts["segments"]),
        hard=_joined(parts["hard"]),
        hard_gains=_joined(parts["hard_gains"]),
        over_time=_joined(parts["time"]),
        shares=_joined(parts["shares"]),
        least_propensity={
            arm: float(rounds.pmf[rounds.eligible[:, k], k].min())
            if rounds.eligible[:, k].any()
            else 0.0
            for k, arm in enumerate(rounds.arms)
        },
        log=log,
        dropped=dropped,
        segment=segment,
        notes=(*notes, *told),
    )


def _as_target(pmf: FloatArray) -> Target:
    """Probabilities for a whole log, as pieces of it ask for them: ``order`` is the row."""
    return lambda rounds: pmf[rounds.order]


def _result(found: TargetEvaluation, logged: TargetEvaluation, pmf: FloatArray) -> TargetResult:
    values: dict[str, Mean] = {}
    gains: dict[str, Mean] = {}
    refusals: dict[str, Refusal] = {}
    for outcome in OUTCOMES:
        estimate = found.estimate(outcome)
        if estimate.refused is not None or estimate.interval is None:
            if estimate.refused is not None:
                refusals[outcome] = estimate.refused
            continue
        values[outcome] = Mean(estimate.value, *estimate.interval, estimate.n)
        if logged.estimate(outcome).refused is None:
            gain, interval = difference(found, logged, outcome)
            gains[outcome] = Mean(gain, *interval, estimate.n)
    return TargetResult(
        name=found.target,
        values=values,
        gains=gains,
        shares=pmf.mean(axis=0),
        diagnostics=found.diagnostics,
        refused=found.refused,
        refusals=refusals,
    )


def _told(target: TargetResult, outcome: str) -> str | None:
    refusal = target.refused or target.refusals.get(outcome)
    return refusal.message if refusal else None


def _gain_json(gain: Mean | None) -> dict[str, Any] | None:
    return {"mean": gain.value, "ci95": [gain.low, gain.high]} if gain else None


@dataclass(frozen=True, slots=True)
class _Parts:
    """A target's rewards round by round, within parts of the log, under the library's limits.

    told: filled with a sentence for each part that is refused.
    """

    target: TargetPmf
    rounds: LoggedRounds
    each: RoundValues
    limits: Limits
    told: list[str]

    @property
    def reward(self) -> FloatArray:
        return self.each.values[self.target.name, "reward"]

    @property
    def gain(self) -> FloatArray:
        return np.asarray(self.reward - self.each.values[LOGGED, "reward"])

    def mean(self, values: FloatArray, inside: BoolArray, words: str) -> Mean | None:
        """The mean of (n,) terms over some rounds, or None where they cannot carry it."""
        tally = WeightTally(self.rounds.arms, self.rounds.segments)
        tally.add(self.rounds.rows(inside), self.target.pmf[inside])
        refused = refusal_of(tally, self.limits)
        weight = self.each.weight[self.target.name, "reward"][inside]
        squares = float(weight @ weight)
        size = float(weight.sum()) ** 2 / squares if squares else 0.0
        least = self.limits.least_effective_sample_size
        if refused is not None or size < least:
            why = refused.message if refused else f"their feedback is worth {size:.0f} decisions"
            sentence = f"{self.target.name} on {words}: no estimate, {why}."
            if sentence not in self.told:
                self.told.append(sentence)
            return None
        return mean_of(values[inside], size)


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames) if frames else pl.DataFrame()


def _slices(ease: FloatArray) -> IntArray:
    """(n,) which fifth by predicted quality: 0 the easiest, 4 the hardest."""
    rank = np.empty(ease.size, dtype=np.int64)
    rank[np.argsort(-ease, kind="stable")] = np.arange(ease.size)
    return rank * SLICES // ease.size


def slice_name(number: int) -> str:
    """What a slice is called on the axis."""
    return {0: "easiest", SLICES - 1: "hardest"}.get(number, str(number + 1))


def _by_slice(cut: _Parts, slices: IntArray) -> pl.DataFrame:
    rows = []
    for number in range(SLICES):
        mean = cut.mean(cut.reward, slices == number, _slice_words(number))
        if mean is not None:
            rows.append(
                (slice_name(number), cut.target.name, mean.value, mean.low, mean.high, mean.n)
            )
    return pl.DataFrame(rows, schema=_schema("slice", "quality"), orient="row")


def _slice_words(number: int) -> str:
    return f"the {slice_name(number)} fifth" if number in (0, SLICES - 1) else f"fifth {number + 1}"


def _hard_gain(cut: _Parts, slices: IntArray) -> pl.DataFrame:
    """The hardest slice: what it gains or loses, and which models answer it."""
    inside = slices == SLICES - 1
    mean = cut.mean(cut.gain, inside, _slice_words(SLICES - 1))
    shift = (cut.target.pmf[inside] - cut.rounds.pmf[inside]).mean(axis=0)
    more = int(shift.argmax())
    rows = []
    if mean is not None:
        arm, share = cut.rounds.arms[more], float(shift[more])
        rows.append((cut.target.name, mean.value, mean.low, mean.high, mean.n, arm, share))
    schema = _schema("", "difference") | {"more_to": pl.String, "more_share": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _by_segment(cut: _Parts) -> pl.DataFrame:
    rounds = cut.rounds
    sizes = np.bincount(rounds.segment, minlength=len(rounds.segments))
    order = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= LEAST_SEGMENT]
    if len(rounds.segments) < 2:
        order = []
    rows = []
    for k in order[:MOST_SEGMENTS]:
        name = rounds.segments[k]
        mean = cut.mean(cut.gain, rounds.segment == k, name)
        if mean is not None:
            rows.append((name, cut.target.name, mean.value, mean.low, mean.high, mean.n))
    return pl.DataFrame(rows, schema=_schema("segment", "difference"), orient="row")


def _schema(part: str, value: str) -> dict[str, type[pl.DataType]]:
    """The columns of a table of means; without ``part``, of one part only."""
    first: dict[str, type[pl.DataType]] = {part: pl.String} if part else {}
    means = dict.fromkeys((value, "low", "high"), pl.Float64)
    return first | {"policy": pl.String} | means | {"decisions": pl.Int64}


def _running(name: str, reward: FloatArray) -> pl.DataFrame:
    """The estimate as it grows along the log; it begins when a twentieth of it is read."""
    count = reward.size
    at = np.unique(np.linspace(max(count // 20, 2), count, 2 * BINS).astype(np.int64))
    total, squares = np.cumsum(reward), np.cumsum(reward * reward)
    mean = total[at - 1] / at
    error = np.sqrt(np.maximum(squares[at - 1] / at - mean**2, 0.0) / at)
    return pl.DataFrame(
        {
            "policy": [name] * at.size,
            "request": at,
            "value": mean,
            "low": mean - 1.96 * error,
            "high": mean + 1.96 * error,
        }
    )


def _shares(target: TargetPmf, arms: Sequence[str]) -> pl.DataFrame:
    count = target.pmf.shape[0]
    edges = np.unique(np.linspace(0, count, min(BINS, count) + 1).astype(np.int64))
    means = np.add.reduceat(target.pmf, edges[:-1], axis=0) / np.diff(edges)[:, None]
    return pl.DataFrame(
        {
            "policy": [target.name] * (len(edges) - 1) * len(arms),
            "request": np.repeat(edges[1:], len(arms)),
            "model": list(arms) * (len(edges) - 1),
            "share": means.ravel(),
        }
    )
