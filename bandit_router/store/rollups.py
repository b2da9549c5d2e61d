"""Keeping the rollups up with the log: each settled row counted once, whatever crashes.

The sums and the place up to which the log is in them change in one transaction, under a lock
on that place. So a crash loses nothing, and two writers cannot count a row twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.learner_store import SETTLED
from bandit_router.store.rollup_sql import SEGMENT_STATEMENTS, SEGMENT_WIDTHS, STATEMENTS, WIDTHS

# Labels are the callers' to choose; beyond so many segments, new ones are counted together.
MOST_SEGMENTS = 200
# Rows of each log table that one transaction adds, where the log's transactions are smaller.
STEP_ROWS = 20_000

LOCK_CURSOR = text("SELECT xid FROM rollup_cursor WHERE id = 1 FOR UPDATE")
FIRST_CURSOR = text("INSERT INTO rollup_cursor (id, xid) VALUES (1, 0) ON CONFLICT (id) DO NOTHING")
MOVE_CURSOR = text("UPDATE rollup_cursor SET xid = :high, updated_at = :now WHERE id = 1")
HIGH = text(
    "SELECT least("
    + ", ".join(
        f"(SELECT xid + 1 FROM {table} WHERE xid >= :low ORDER BY xid OFFSET :rows LIMIT 1)"
        for table in ("decisions", "outcomes", "rewards")
    )
    + f", {SETTLED})"
)
ANY_ROWS = text(
    "SELECT "
    + " OR ".join(
        f"EXISTS (SELECT FROM {table} WHERE xid >= :low AND xid < :high)"
        for table in ("decisions", "outcomes", "rewards")
    )
)


@dataclass(frozen=True, slots=True)
class RollupStep:
    """What one step did. changed: whether any sum moved. behind: whether more waits already."""

    changed: bool
    behind: bool


class Rollups:
    """Adds what is new in the log to the sums.

    segment_keys: the metadata labels by which requests are also counted.
    """

    def __init__(
        self, engine: AsyncEngine, segment_keys: Sequence[str], *, step_rows: int = STEP_ROWS
    ) -> None:
        self._engine = engine
        self._segment_keys = list(segment_keys)
        self._step_rows = step_rows

    async def step(self, now: datetime) -> RollupStep:
        """Add the settled rows after the cursor, at most about ``step_rows`` a table.

        Buckets too old at ``now`` for their width are not made. Raises StoreError, and then
        nothing has changed.
        """
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                await connection.execute(FIRST_CURSOR)
                low = int(await connection.scalar(LOCK_CURSOR) or 0)
                span = {"low": low, "rows": self._step_rows}
                high = int(await connection.scalar(HIGH, span) or low)
                settled = int(await connection.scalar(text(f"SELECT {SETTLED}")) or 0)
                if high <= low:
                    return RollupStep(changed=False, behind=False)
                changed = bool(await connection.scalar(ANY_ROWS, {"low": low, "high": high}))
                if changed:
                    await self._add(connection, low, high, now)
                    await connection.execute(MOVE_CURSOR, {"high": high, "now": now})
                return RollupStep(changed=changed, behind=high < settled)

    async def _add(self, connection: AsyncConnection, low: int, high: int, now: datetime) -> None:
        span = {"low": low, "high": high, "now": now}
        for statement in STATEMENTS:
            await connection.execute(statement, span)
        segments = {**span, "keys": self._segment_keys, "most": MOST_SEGMENTS}
        for statement in SEGMENT_STATEMENTS:
            named = statement._bindparams
            await connection.execute(statement, {k: v for k, v in segments.items() if k in named})

    async def thin(self, now: datetime) -> int:
        """Drop the buckets that are too old for their width; returns how many rows went."""
        gone = 0
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                for table, widths in (
                    ("rollup_models", tuple(WIDTHS)),
                    ("rollup_bins", tuple(WIDTHS)),
                    ("rollup_segments", SEGMENT_WIDTHS),
                ):
                    for width_s in widths:
                        result = await connection.execute(
                            text(
                                f"DELETE FROM {table} WHERE width_s = :width_s AND bucket < "
                                "CAST(:now AS timestamptz) - make_interval(secs => :kept_s)"
                            ),
                            {"width_s": width_s, "kept_s": WIDTHS[width_s] + width_s, "now": now},
                        )
                        gone += result.rowcount
        return gone

    async def lag_s(self, now: datetime) -> float | None:
        """Seconds since the sums last moved; None before the first time."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                moved = await connection.scalar(text("SELECT updated_at FROM rollup_cursor"))
        return None if moved is None else max(0.0, (now - moved).total_seconds())
