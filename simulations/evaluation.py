"""Evaluate target policies on logged traffic: means, differences, segments and hard requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bandit_router.ope import Limits, LoggedRounds, Refusal
from bandit_router.types import FloatArray, IntArray
from simulations.contrasts import (
    Mean,
    Weights,
    contributions,
    mean_of,
    outcome_model,
    refusal_of,
    weights_of,
)
from simulations.logs.checks import Dropped
from simulations.logs.rounds import Log
from simulations.targets import LOGGED, TargetPmf

OUTCOMES = ("reward", "cost_usd", "latency_s")
SLICES = 5
BINS = 40
LEAST_SEGMENT = 100
MOST_SEGMENTS = 12


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target on one log. values: outcome -> mean with interval, empty where refused.

    gains: outcome -> mean difference from what was logged, paired round by round.
    shares: (K,) mean probability of each arm.
    """

    name: str
    values: Mapping[str, Mean]
    gains: Mapping[str, Mean]
    shares: FloatArray
    weights: Weights
    refused: Refusal | None


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
                        "effective_sample_size": target.weights.effective_sample_size,
                        "largest_weight": target.weights.largest,
                        "refused": target.refused.message if target.refused else None,
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
                    "effective_sample_size": target.weights.effective_sample_size,
                    "largest_weight": target.weights.largest,
                    "unsupported": target.weights.unsupported,
                    "shares": dict(zip(self.arms, target.shares.tolist(), strict=True)),
                    **{
                        outcome: {
                            "mean": mean.value,
                            "ci95": [mean.low, mean.high],
                            "against_logged": {
                                "mean": target.gains[outcome].value,
                                "ci95": [target.gains[outcome].low, target.gains[outcome].high],
                            },
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
    rounds, bounds = log.rounds, limits or Limits()
    chosen = [TargetPmf(LOGGED, rounds.pmf)] + [t for t in targets if t.name != LOGGED]
    models = {name: outcome_model(rounds, name) for name in OUTCOMES}
    models = {name: model for name, model in models.items() if model.known}
    base = {
        name: contributions(rounds, model, rounds.pmf, np.ones(len(rounds)))
        for name, model in models.items()
    }
    slices = _slices(models["reward"].predicted.mean(axis=1)) if "reward" in models else None
    results: list[TargetResult] = []
    parts: dict[str, list[pl.DataFrame]] = {
        k: [] for k in ("segments", "hard", "hard_gains", "time", "shares")
    }
    for target in chosen:
        weights = weights_of(rounds, target.pmf)
        refused = refusal_of(weights, rounds, bounds)
        values: dict[str, FloatArray] = {}
        if refused is None:
            values = {
                name: contributions(rounds, model, target.pmf, weights.weight)
                for name, model in models.items()
            }
        results.append(
            TargetResult(
                name=target.name,
                values={name: mean_of(value) for name, value in values.items()},
                gains={name: mean_of(value - base[name]) for name, value in values.items()},
                shares=target.pmf.mean(axis=0),
                weights=weights,
                refused=refused,
            )
        )
        parts["shares"].append(_shares(target, rounds.arms))
        if "reward" in values and slices is not None:
            reward = values["reward"]
            parts["time"].append(_running(target.name, reward))
            parts["hard"].append(_by_slice(target.name, reward, slices))
            if target.name != LOGGED:
                gain = reward - base["reward"]
                parts["hard_gains"].append(_hard_gain(target, gain, slices, rounds))
                parts["segments"].append(_by_segment(target.name, gain, rounds))
        on_step()
    told = np.isfinite(rounds.reward)
    return Evaluation(
        arms=rounds.arms,
        decisions=len(rounds),
        feedback_rate={
            arm: float(told[rounds.arm == k].mean()) if (rounds.arm == k).any() else 0.0
            for k, arm in enumerate(rounds.arms)
        },
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
        notes=tuple(notes),
    )


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


def _by_slice(name: str, reward: FloatArray, slices: IntArray) -> pl.DataFrame:
    rows = []
    for number in range(SLICES):
        mean = mean_of(reward[slices == number])
        rows.append(
            {
                "slice": slice_name(number),
                "policy": name,
                "quality": mean.value,
                "low": mean.low,
                "high": mean.high,
                "decisions": mean.n,
            }
        )
    return pl.DataFrame(rows)


def _hard_gain(
    target: TargetPmf, gain: FloatArray, slices: IntArray, rounds: LoggedRounds
) -> pl.DataFrame:
    """The hardest slice: what it gains or loses, and which models answer it."""
    inside = slices == SLICES - 1
    mean = mean_of(gain[inside])
    shift = (target.pmf[inside] - rounds.pmf[inside]).mean(axis=0)
    more = int(shift.argmax())
    return pl.DataFrame(
        {
            "policy": [target.name],
            "difference": [mean.value],
            "low": [mean.low],
            "high": [mean.high],
            "decisions": [mean.n],
            "more_to": [rounds.arms[more]],
            "more_share": [float(shift[more])],
        }
    )


def _by_segment(name: str, gain: FloatArray, rounds: LoggedRounds) -> pl.DataFrame:
    sizes = np.bincount(rounds.segment, minlength=len(rounds.segments))
    order = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= LEAST_SEGMENT]
    if len(rounds.segments) < 2:
        order = []
    rows = []
    for k in order[:MOST_SEGMENTS]:
        mean = mean_of(gain[rounds.segment == k])
        rows.append(
            {
                "segment": rounds.segments[k],
                "policy": name,
                "difference": mean.value,
                "low": mean.low,
                "high": mean.high,
                "decisions": mean.n,
            }
        )
    return pl.DataFrame(
        rows,
        schema={
            "segment": pl.String,
            "policy": pl.String,
            "difference": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "decisions": pl.Int64,
        },
    )


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
