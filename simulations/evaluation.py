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
    Options,
    Refusal,
    RefusalReason,
    Target,
    difference,
    evaluate_by_round,
)
from bandit_router.ope import Evaluation as TargetEvaluation
from bandit_router.ope.diagnostics import Diagnostics
from bandit_router.types import FloatArray
from simulations.evaluation_parts import (
    Parts,
    by_segment,
    by_slice,
    hard_gain,
    joined,
    running,
    sentences,
    shares_along,
    slices_of,
)
from simulations.logs.checks import Dropped
from simulations.logs.rounds import Log
from simulations.means import Mean
from simulations.targets import LOGGED, TargetPmf


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
    options = Options(estimators=("dr",), methods=("bootstrap",), limits=limits)
    found, each = evaluate_by_round(rounds, wanted, options)
    rewarded = bool(np.isfinite(rounds.reward).any())
    slices = slices_of(each.predicted["reward"].mean(axis=1)) if rewarded else None
    results: list[TargetResult] = []
    left_out: dict[tuple[str, RefusalReason], list[str]] = {}
    parts: dict[str, list[pl.DataFrame]] = {
        k: [] for k in ("segments", "hard", "hard_gains", "time", "shares")
    }
    for target in chosen:
        result = _result(found[target.name], found[LOGGED], target.pmf)
        results.append(result)
        parts["shares"].append(shares_along(target, rounds.arms))
        if "reward" in result.values and slices is not None:
            cut = Parts(target, rounds, each, limits, left_out)
            parts["time"].append(running(target.name, cut.reward))
            parts["hard"].append(by_slice(cut, slices))
            if target.name != LOGGED and "reward" in result.gains:
                parts["hard_gains"].append(hard_gain(cut, slices))
                parts["segments"].append(by_segment(cut))
        on_step()
    rates = found[LOGGED].feedback.by_arm
    return Evaluation(
        arms=rounds.arms,
        decisions=len(rounds),
        feedback_rate={arm: float(np.nan_to_num(rate)) for arm, rate in rates.items()},
        targets=tuple(results),
        segments=joined(parts["segments"]),
        hard=joined(parts["hard"]),
        hard_gains=joined(parts["hard_gains"]),
        over_time=joined(parts["time"]),
        shares=joined(parts["shares"]),
        least_propensity={
            arm: float(rounds.pmf[rounds.eligible[:, k], k].min())
            if rounds.eligible[:, k].any()
            else 0.0
            for k, arm in enumerate(rounds.arms)
        },
        log=log,
        dropped=dropped,
        segment=segment,
        notes=(*notes, *sentences(left_out)),
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
