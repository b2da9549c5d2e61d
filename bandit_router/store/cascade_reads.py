"""How often cascades escalate, over all replicas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors

# By the partial index: other decisions are not looked at.
SUMS = text(
    """
    SELECT influences->>'cascade' AS cascade,
           count(*) FILTER (WHERE NOT influences ? 'escalated_from') AS requests,
           count(*) FILTER (WHERE influences ? 'escalated_from') AS escalations
    FROM decisions
    WHERE influences ? 'cascade' AND created_at >= :since
      AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
    GROUP BY 1 ORDER BY 1
    """
)


@dataclass(frozen=True, slots=True)
class CascadeSums:
    """One cascade's requests, and how many of them went on to a stronger model."""

    cascade: str
    requests: int
    escalations: int

    @property
    def escalation_rate(self) -> float | None:
        return self.escalations / self.requests if self.requests else None


async def cascade_sums(
    engine: AsyncEngine, since: datetime, tenant: str | None = None
) -> tuple[CascadeSums, ...]:
    """Every cascade since a moment, by name. tenant None is all."""
    with store_errors(engine):
        async with engine.connect() as connection:
            found = await connection.execute(SUMS, {"since": since, "tenant": tenant})
            return tuple(CascadeSums(**row) for row in found.mappings())
