"""What a report says, before it is drawn: the same for evaluations and simulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

Interval = tuple[float, float]


class Level(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"
    BAD = "bad"


class Role(StrEnum):
    """What a point on the frontier is."""

    TARGET = "policy"
    MODEL = "single model"
    LOGGED = "as logged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that a reader should not miss."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One policy: mean quality and mean dollars per request, with intervals where there are any.

    latency_s: mean seconds. effective_sample_size: of an off-policy estimate. refused: why
    there is no number; quality is None then. estimator: what made the number.
    """

    name: str
    role: Role
    quality: float | None
    cost_usd: float | None
    quality_interval: Interval | None = None
    cost_interval: Interval | None = None
    latency_s: float | None = None
    effective_sample_size: float | None = None
    estimator: str = ""
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line on the frontier: (dollars, quality) from cheap to dear."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """The whole report. Frames may be empty; their sections are then left out.

    subtitle: what was looked at, in a sentence. facts: small figures for the head.
    reference: the policy that differences are taken from. shares: policy, request, model,
    share. over_time: policy, request, value (with over_time_name). segments: segment, policy,
    difference, low, high, decisions. hard: slice (1 easiest), policy, quality, low, high,
    decisions. hard_table: rows for people. left_out, method: sentences.
    """

    title: str
    subtitle: str
    facts: Mapping[str, str]
    findings: Sequence[Finding]
    points: Sequence[Point]
    reference: str
    curves: Sequence[Curve] = ()
    shares: pl.DataFrame = field(default_factory=pl.DataFrame)
    over_time: pl.DataFrame = field(default_factory=pl.DataFrame)
    over_time_name: str = "regret"
    over_time_words: str = ""
    segments: pl.DataFrame = field(default_factory=pl.DataFrame)
    segments_words: str = ""
    hard: pl.DataFrame = field(default_factory=pl.DataFrame)
    hard_words: str = ""
    left_out: Sequence[str] = ()
    method: Sequence[str] = ()

    def point(self, name: str) -> Point:
        """The point of a policy."""
        return next(point for point in self.points if point.name == name)
