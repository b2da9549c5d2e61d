"""Reading the rollups: totals, trends, histograms and kinds of requests over a span."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Integer, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.rollup_sql import EPOCH, WIDTHS
from bandit_router.store.tables import TIMESTAMP
from bandit_router.traffic import SUMS, ModelSums, SegmentSums, merged

UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when to look, both at the edges of buckets of a width, the narrowest that
    is read. tenant None is all."""

    width_s: int
    since: datetime
    until: datetime
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class ModeSums:
    """A model's sums, of the decisions made in one mode."""

    mode: str
    sums: ModelSums


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """A model's sums of one step of time."""

    start: datetime
    sums: ModelSums


# A span in parts, each of buckets of one width: see ``_parts``. OFFSET 0: a part is a short range
# of the table's index. As a plain join the planner would rather read the whole table.
PARTS = """unnest(:widths, :sinces, :untils) AS part (width, since, until)
    CROSS JOIN LATERAL (
        SELECT * FROM {table} WHERE width_s = part.width AND bucket >= part.since
        AND bucket < part.until AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant) OFFSET 0
    ) sums"""
PART_TYPES = (
    bindparam("widths", type_=ARRAY(Integer)),
    bindparam("sinces", type_=ARRAY(TIMESTAMP)),
    bindparam("untils", type_=ARRAY(TIMESTAMP)),
)
ALL_SUMS = ", ".join(f"sum({column}) AS {column}" for column in SUMS)
TOTALS = text(
    f"SELECT model, mode, {ALL_SUMS} FROM {PARTS.format(table='rollup_models')} GROUP BY 1, 2"
).bindparams(*PART_TYPES)
TREND = text(
    f"SELECT date_bin(make_interval(secs => :step_s), bucket, {EPOCH}) AS start, model, {ALL_SUMS} "
    f"FROM {PARTS.format(table='rollup_models')} GROUP BY 1, 2 ORDER BY 1, 2"
).bindparams(*PART_TYPES)
BINS = text(
    "SELECT model, kind, bin, sum(entries) AS entries "
    f"FROM {PARTS.format(table='rollup_bins')} GROUP BY 1, 2, 3"
).bindparams(*PART_TYPES)
SEGMENTS = text(
    "SELECT segment, model, sum(decisions) AS decisions, sum(answers) AS answers, "
    "sum(cost_usd) AS cost_usd, sum(rewards) AS rewards, sum(reward_sum) AS reward_sum, "
    f"sum(low_rewards) AS low_rewards FROM {PARTS.format(table='rollup_segments')} GROUP BY 1, 2"
).bindparams(*PART_TYPES)
NAMES = text("SELECT segment FROM rollup_segment_names")
# Days first: a model's last day has at most 24 hours to look through.
LAST_CHOSEN = text(
    """
    SELECT d.model, h.at
    FROM (SELECT model, max(bucket) AS day FROM rollup_models
          WHERE width_s = 86400 AND decisions > 0 GROUP BY model) d
    CROSS JOIN LATERAL (
        SELECT max(bucket) AS at FROM (
            SELECT bucket, model, decisions FROM rollup_models WHERE width_s = 3600
            AND bucket >= d.day AND bucket < d.day + interval '1 day' OFFSET 0
        ) hours WHERE hours.model = d.model AND hours.decisions > 0
    ) h
    """
)
Histograms = dict[tuple[str, str], dict[int, int]]


class RollupReads:
    """What panels ask. Nothing here looks at the log."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def totals(self, span: Span) -> tuple[ModeSums, ...]:
        """Sums per model and mode."""
        found = await self._rows(TOTALS, _within(span))
        return tuple(ModeSums(row["mode"], _sums(row)) for row in found)

    async def last_day(self, now: datetime) -> tuple[ModelSums, ...]:
        """Sums per model over the last twenty-four hours, to the minute."""
        span = Span(60, now - timedelta(days=1), now + timedelta(minutes=1))
        return merged([part.sums for part in await self.totals(span)])

    async def trend(self, span: Span, step: timedelta) -> tuple[TrendPoint, ...]:
        """Sums per model and step of time, oldest first; empty steps are left out."""
        asked = {**_within(span, step.total_seconds()), "step_s": step.total_seconds()}
        found = await self._rows(TREND, asked)
        return tuple(TrendPoint(row["start"], _sums(row)) for row in found)

    async def histograms(self, span: Span) -> Histograms:
        """Entries by bin, for each (model, kind)."""
        histograms: Histograms = {}
        for row in await self._rows(BINS, _within(span)):
            bins = histograms.setdefault((row["model"], row["kind"]), {})
            bins[int(row["bin"])] = int(row["entries"])
        return histograms

    async def segments(self, span: Span) -> tuple[SegmentSums, ...]:
        """What came of each kind of requests on each model."""
        return tuple(
            SegmentSums(
                segment=row["segment"],
                model=row["model"],
                decisions=int(row["decisions"]),
                answers=int(row["answers"]),
                cost_usd=float(row["cost_usd"]),
                rewards=int(row["rewards"]),
                reward_sum=float(row["reward_sum"]),
                low_rewards=int(row["low_rewards"]),
            )
            for row in await self._rows(SEGMENTS, _within(span))
        )

    async def labels(self) -> tuple[tuple[str, str], ...]:
        """Key and value of every label that is a kind of its own; long values are cut."""
        names = (row["segment"].partition("=") for row in await self._rows(NAMES, {}))
        return tuple((key, value) for key, _, value in names if key != "length")

    async def last_chosen(self) -> dict[str, datetime]:
        """The hour in which each model was chosen last."""
        return {row["model"]: row["at"] for row in await self._rows(LAST_CHOSEN, {})}

    async def _rows(self, query: Any, parameters: dict[str, Any]) -> Any:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return (await connection.execute(query, parameters)).mappings().all()


def _within(span: Span, widest_s: float = math.inf) -> dict[str, Any]:
    """The parameters of a query. widest_s: width of the widest buckets that still will do."""
    widths = [width_s for width_s in WIDTHS if span.width_s <= width_s <= widest_s]
    parts = _parts(span.since, span.until, widths)
    return {
        "widths": [width_s for width_s, _, _ in parts],
        "sinces": [since for _, since, _ in parts],
        "untils": [until for _, _, until in parts],
        "tenant": span.tenant,
    }


def _parts(
    since: datetime, until: datetime, widths: Sequence[int]
) -> list[tuple[int, datetime, datetime]]:
    """A span cut so that few buckets make it up: wide ones inside, narrower ones at its ends."""
    if since >= until:
        return []
    width_s, wider = widths[0], widths[1:]
    if wider:
        width = timedelta(seconds=wider[0])
        inner = UTC_EPOCH - width * ((UTC_EPOCH - since) // width)
        outer = UTC_EPOCH + width * ((until - UTC_EPOCH) // width)
        if inner < outer:
            return [
                (width_s, since, inner),
                *_parts(inner, outer, wider),
                (width_s, outer, until),
            ]
    return [(width_s, since, until)]


WHOLE_NUMBERS = {name for name in SUMS if isinstance(getattr(ModelSums(""), name), int)}


def _sums(row: Any) -> ModelSums:
    values: dict[str, Any] = {
        name: int(row[name]) if name in WHOLE_NUMBERS else float(row[name]) for name in SUMS
    }
    return ModelSums(row["model"], **values)
