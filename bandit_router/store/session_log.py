"""What the log knows of a session: its latest decision, whichever replica made it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.partitions import id_lower_bound

# Ids rise with time: the bound on id leaves out whole days of the log.
LATEST = text(
    """
    SELECT d.chosen, o.answered_by
    FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id
    WHERE d.tenant = :tenant AND d.session_id = :session_id AND d.id >= :low
    ORDER BY d.id DESC LIMIT 1
    """
)


@dataclass(frozen=True, slots=True)
class SessionState:
    """Where a session stands. answered_by: None while the outcome is unknown."""

    chosen: str
    answered_by: str | None


class SessionLog:
    """Reads the decisions of sessions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def latest(self, tenant: str, session_id: str, since: datetime) -> SessionState | None:
        """The newest decision of a session, None where there is none since a time."""
        asked = {
            "tenant": tenant,
            "session_id": session_id,
            "low": id_lower_bound(since),
        }
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                row = (await connection.execute(LATEST, asked)).one_or_none()
        if row is None:
            return None
        return SessionState(row.chosen, row.answered_by)
