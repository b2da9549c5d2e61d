"""Read the log as a trial is judged by: what arrived of its decisions, and what they came to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.learner_store import LAST_SETTLED, SETTLED, START, Cursor
from bandit_router.store.partitions import id_lower_bound
from bandit_router.store.rows import frozen_bools, frozen_floats, trial_from_row
from bandit_router.trial_rows import TrialPage, TrialRow

# Rows of other decisions are read past, so that the cursor moves on. A decision's first reward
# counts: what is revised later is one person's second thought, not another draw.
ARRIVED = text(
    f"""
    SELECT r.xid, r.seq, r.cost_usd,
           CASE WHEN EXISTS (
               SELECT FROM rewards e WHERE e.decision_id = r.decision_id
               AND e.reward IS NOT NULL AND (e.xid, e.seq) < (r.xid, r.seq)
           ) THEN NULL ELSE r.reward END AS reward,
           d.arms, d.eligible, d.pmf, d.trial, d.chosen, d.predicted_quality
    FROM rewards r LEFT JOIN decisions d
        ON d.id = r.decision_id AND d.id >= :since AND d.trial->>'challenger' = :line
        AND ((d.trial->>'share')::float8 > 0) = :canary
    WHERE (r.xid, r.seq) > (:after_xid, :after_seq) AND r.xid < {SETTLED}
    ORDER BY r.xid, r.seq LIMIT :limit
    """
)
# The newest decisions of a trial with the reward that now stands, oldest first.
DECIDED = text(
    """
    SELECT * FROM (
        SELECT d.id, d.arms, d.eligible, d.pmf, d.trial, d.chosen, d.predicted_quality,
               o.cost_usd, told.reward
        FROM decisions d
        LEFT JOIN outcomes o ON o.decision_id = d.id
        LEFT JOIN LATERAL (
            SELECT r.reward FROM rewards r
            WHERE r.decision_id = d.id
              AND (r.reward IS NOT NULL OR r.previous_reward IS NOT NULL)
            ORDER BY r.seq DESC LIMIT 1
        ) told ON true
        WHERE d.id >= :since AND d.trial->>'challenger' = :line
        ORDER BY d.id DESC LIMIT :limit
    ) newest ORDER BY id
    """
)


class TrialStore:
    """Reads of trials."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def end_of_log(self) -> Cursor:
        """The last settled row of rewards and outcomes; what is learned later lies after it."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                last = (await connection.execute(LAST_SETTLED)).one_or_none()
        return (last.xid, last.seq) if last else START

    async def arrived(
        self, line: str, since: datetime, after: Cursor, *, canary: bool, limit: int
    ) -> TrialPage:
        """What arrived after a cursor, of decisions made since a moment in one stage."""
        asked = {
            "line": line,
            "since": id_lower_bound(since),
            "canary": canary,
            "after_xid": after[0],
            "after_seq": after[1],
            "limit": limit,
        }
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = (await connection.execute(ARRIVED, asked)).mappings().all()
        cursor = (found[-1]["xid"], found[-1]["seq"]) if found else after
        return TrialPage([_row(row) for row in found if row["arms"] is not None], cursor)

    async def decided(self, line: str, since: datetime, limit: int) -> list[TrialRow]:
        """The newest decisions of a trial, oldest first, with what is known of them now."""
        asked = {"line": line, "since": id_lower_bound(since), "limit": limit}
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = (await connection.execute(DECIDED, asked)).mappings().all()
        return [_row(row) for row in found]


def _row(row: Mapping[Any, Any]) -> TrialRow:
    arms = tuple(row["arms"])
    return TrialRow(
        arms=arms,
        eligible=frozen_bools(row["eligible"]),
        pmf=frozen_floats(row["pmf"]),
        trial=trial_from_row(row["trial"], row["pmf"]),
        chosen=arms.index(row["chosen"]),
        predicted_quality=frozen_floats(row["predicted_quality"]),
        reward=row["reward"],
        cost_usd=row["cost_usd"],
    )
