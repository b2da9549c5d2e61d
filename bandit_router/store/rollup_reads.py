"""Reading the rollups: totals, trends, histograms and kinds of requests over a span."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.rollup_sql import EPOCH
from bandit_router.traffic import SUMS, ModelSums, SegmentSums


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when to look, and by buckets of which width. tenant None is all."""

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


WITHIN = (
    "width_s = :width_s AND bucket >= :since AND bucket < :until "
    "AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)"
)
ALL_SUMS = ", ".join(f"sum({column}) AS {column}" for column in SUMS)
TOTALS = text(f"SELECT model, mode, {ALL_SUMS} FROM rollup_models WHERE {WITHIN} GROUP BY 1, 2")
TREND = text(
    f"SELECT date_bin(make_interval(secs => :step_s), bucket, {EPOCH}) AS start, model, {ALL_SUMS} "
    f"FROM rollup_models WHERE {WITHIN} GROUP BY 1, 2 ORDER BY 1, 2"
)
BINS = text(
    f"SELECT model, kind, bin, sum(entries) AS entries FROM rollup_bins WHERE {WITHIN} "
    "GROUP BY 1, 2, 3"
)
SEGMENTS = text(
    "SELECT segment, model, sum(decisions) AS decisions, sum(answers) AS answers, "
    "sum(cost_usd) AS cost_usd, sum(rewards) AS rewards, sum(reward_sum) AS reward_sum, "
    f"sum(low_rewards) AS low_rewards FROM rollup_segments WHERE {WITHIN} GROUP BY 1, 2"
)
# Days first: a model's last day has at most 24 hours to look through.
LAST_CHOSEN = text(
    """
    SELECT d.model, max(h.bucket) AS at
    FROM (SELECT model, max(bucket) AS day FROM rollup_models
          WHERE width_s = 86400 AND decisions > 0 GROUP BY model) d
    JOIN rollup_models h ON h.width_s = 3600 AND h.model = d.model AND h.decisions > 0
        AND h.bucket >= d.day
    GROUP BY d.model
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

    async def trend(self, span: Span, step: timedelta) -> tuple[TrendPoint, ...]:
        """Sums per model and step of time, oldest first; empty steps are left out."""
        asked = {**_within(span), "step_s": step.total_seconds()}
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

    async def last_chosen(self) -> dict[str, datetime]:
        """The hour in which each model was chosen last."""
        return {row["model"]: row["at"] for row in await self._rows(LAST_CHOSEN, {})}

    async def _rows(self, query: Any, parameters: dict[str, Any]) -> Any:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return (await connection.execute(query, parameters)).mappings().all()


def _within(span: Span) -> dict[str, Any]:
    return {
        "width_s": span.width_s,
        "since": span.since,
        "until": span.until,
        "tenant": span.tenant,
    }


WHOLE_NUMBERS = {name for name in SUMS if isinstance(getattr(ModelSums(""), name), int)}


def _sums(row: Any) -> ModelSums:
    values: dict[str, Any] = {
        name: int(row[name]) if name in WHOLE_NUMBERS else float(row[name]) for name in SUMS
    }
    return ModelSums(row["model"], **values)
