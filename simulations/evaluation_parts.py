"""What an evaluation says of parts of a log: segments, hard requests, and as the log grows.

Each part is held to the library's limits, as the whole is; what it cannot carry is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bandit_router.ope import Limits, LoggedRounds, RefusalReason, RoundValues
from bandit_router.ope.diagnostics import WeightTally
from bandit_router.ope.refusal import refusal_of
from bandit_router.types import BoolArray, FloatArray, IntArray
from simulations.means import Mean, mean_of
from simulations.targets import LOGGED, TargetPmf

SLICES = 5
BINS = 40
LEAST_SEGMENT = 100
MOST_SEGMENTS = 12
REASONS = {
    RefusalReason.EFFECTIVE_SAMPLE_SIZE: "too few decisions there are what it would have chosen",
    RefusalReason.LARGEST_WEIGHT: "single decisions there weigh too much",
    RefusalReason.NO_SUPPORT: "the log could not have chosen there as it would",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """A target's rewards round by round, within parts of the log, under the library's limits.

    left_out: filled with the parts that are refused, by target and reason.
    """

    target: TargetPmf
    rounds: LoggedRounds
    each: RoundValues
    limits: Limits
    left_out: dict[tuple[str, RefusalReason], list[str]]

    @property
    def reward(self) -> FloatArray:
        """(n,) DR's terms of the target."""
        return self.each.values[self.target.name, "reward"]

    @property
    def gain(self) -> FloatArray:
        """(n,) those terms less those of the log itself."""
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
            reason = refused.reason if refused else RefusalReason.EFFECTIVE_SAMPLE_SIZE
            parts = self.left_out.setdefault((self.target.name, reason), [])
            if words not in parts:
                parts.append(words)
            return None
        return mean_of(values[inside], size)


def sentences(left_out: Mapping[tuple[str, RefusalReason], Sequence[str]]) -> list[str]:
    """What is left out of the parts, one sentence for each target and reason."""
    return [
        f"{target}: no estimate on {', '.join(parts)}; {REASONS[reason]}."
        for (target, reason), parts in left_out.items()
    ]


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One frame of all, empty where there is none."""
    return pl.concat(frames) if frames else pl.DataFrame()


def slices_of(ease: FloatArray) -> IntArray:
    """(n,) which fifth by predicted quality: 0 the easiest, 4 the hardest."""
    rank = np.empty(ease.size, dtype=np.int64)
    rank[np.argsort(-ease, kind="stable")] = np.arange(ease.size)
    return rank * SLICES // ease.size


def slice_name(number: int) -> str:
    """What a slice is called on the axis."""
    return {0: "easiest", SLICES - 1: "hardest"}.get(number, str(number + 1))


def by_slice(cut: Parts, slices: IntArray) -> pl.DataFrame:
    """The target's quality in each slice of the log."""
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


def hard_gain(cut: Parts, slices: IntArray) -> pl.DataFrame:
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


def by_segment(cut: Parts) -> pl.DataFrame:
    """What the target gains or loses in each of the largest segments."""
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


def running(name: str, reward: FloatArray) -> pl.DataFrame:
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


def shares_along(target: TargetPmf, arms: Sequence[str]) -> pl.DataFrame:
    """Each arm's mean probability along the log."""
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
