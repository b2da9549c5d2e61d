"""Who changed what: one line per act of an operator, never changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.rows import storable
from bandit_router.store.tables import audit_log


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act. actor: a key's name, or ``command line``. detail: a JSON object."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


async def append_audit(
    engine: AsyncEngine,
    *,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Write one act down; returns its id."""
    values = {"actor": actor, "action": action, "subject": subject, "detail": detail or {}}
    with store_errors(engine):
        async with engine.begin() as connection:
            made = await connection.execute(
                insert(audit_log).values(storable(values)).returning(audit_log.c.id)
            )
            return int(made.scalar_one())


async def list_audit(
    engine: AsyncEngine, *, limit: int = 100, before: int | None = None, action: str = ""
) -> tuple[AuditEntry, ...]:
    """The newest acts first; ``before`` is the id to page on from. action: how theirs begin."""
    query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit_log.c.id < before)
    if action:
        query = query.where(audit_log.c.action.startswith(action, autoescape=True))
    with store_errors(engine):
        async with engine.connect() as connection:
            found = (await connection.execute(query)).mappings().all()
    return tuple(AuditEntry(**row) for row in found)
