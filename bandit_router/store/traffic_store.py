"""Read the log as an evaluator wants it: one row per decision with what finally came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.partitions import id_lower_bound
from bandit_router.store.rows import unpack_features

# Ids are UUIDv7, so a range of them is a range of time, and the next page begins after the last
# id: no page gets slower than the one before, and rows that arrive meanwhile shift nothing.
PAGE = text(
    """
    SELECT d.id, d.created_at, d.tenant, d.session_id, d.mode, d.arms, d.eligible, d.pmf,
           d.chosen, d.propensity, d.features, d.extractor_version, d.input_tokens, d.policy,
           d.snapshot_version, d.price_of_dollar, d.predicted_quality, d.predicted_cost_usd,
           d.predicted_latency_s, d.metadata,
           o.answered_by, o.status, o.cost_usd, o.latency_s, o.output_tokens, told.reward
    FROM decisions d
    LEFT JOIN outcomes o ON o.decision_id = d.id
    LEFT JOIN LATERAL (
        SELECT r.reward FROM rewards r
        WHERE r.decision_id = d.id AND (r.reward IS NOT NULL OR r.previous_reward IS NOT NULL)
        ORDER BY r.seq DESC LIMIT 1
    ) told ON true
    WHERE d.id > :after AND d.id < :upto AND (CAST(:tenant AS text) IS NULL OR d.tenant = :tenant)
    ORDER BY d.id LIMIT :limit
    """
)
COUNT = text(
    "SELECT count(*) FROM decisions d WHERE d.id > :after AND d.id < :upto "
    "AND (CAST(:tenant AS text) IS NULL OR d.tenant = :tenant)"
)
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


class TrafficStore:
    """The decisions of a span of time, oldest first, a page at a time."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant: str | None = None,
    ) -> None:
        """since, until: from when on and before when; by default all. tenant: only its own."""
        self._engine = engine
        self._after = FIRST_ID if since is None else UUID(int=max(id_lower_bound(since).int - 1, 0))
        self._upto = LAST_ID if until is None else id_lower_bound(until)
        self._tenant = tenant

    async def count(self) -> int:
        """How many decisions there are."""
        span = {"after": self._after, "upto": self._upto, "tenant": self._tenant}
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return int(await connection.scalar(COUNT, span) or 0)

    async def pages(self, size: int) -> AsyncIterator[list[dict[str, Any]]]:
        """Pages of at most ``size`` rows; the keys are those of the log's schema.

        A reward is the one that now stands, whenever it came. Memory is that of one page.
        """
        after = self._after
        while True:
            span = {"after": after, "upto": self._upto, "tenant": self._tenant, "limit": size}
            with store_errors(self._engine):
                async with self._engine.connect() as connection:
                    found = (await connection.execute(PAGE, span)).mappings().all()
            if found:
                after = found[-1]["id"]
                yield [_row(row) for row in found]
            if len(found) < size:
                return


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    values = {key: value for key, value in row.items() if key != "id"}
    return {
        "decision_id": str(row["id"]),
        **values,
        "features": unpack_features(row["features"]).tolist(),
    }
