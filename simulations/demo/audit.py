"""Compare what was sent with what is in Postgres: nothing lost, nothing changed, all learned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine, store_errors
from simulations.demo.tally import Answered
from simulations.demo.workspace import Workspace

# Outcomes follow their answers, and the learner the outcomes, within a second.
PATIENCE_S = 15.0
POLL_S = 0.2

ROWS = text(
    """
    SELECT d.id, o.answered_by, o.cost_usd,
           (SELECT count(*) FROM feedback f WHERE f.decision_id = d.id) AS feedback,
           (SELECT r.reward FROM rewards r WHERE r.decision_id = d.id
            AND (r.reward IS NOT NULL OR r.previous_reward IS NOT NULL)
            ORDER BY r.seq DESC LIMIT 1) AS reward
    FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id
    """
)
LEARNED = text(
    """
    SELECT s.version, (s.cursor_xid, s.cursor_seq) >= (r.xid, r.seq) AS all_rows
    FROM (SELECT version, cursor_xid, cursor_seq FROM snapshots
          ORDER BY version DESC LIMIT 1) s,
         (SELECT xid, seq FROM rewards ORDER BY xid DESC, seq DESC LIMIT 1) r
    """
)


@dataclass(frozen=True, slots=True)
class Audit:
    """What the log has of the answered requests, each counted only where it is right.

    rewards: decisions whose reward is the judged quality that was posted. judged: answers that
    have one. learned: whether the newest snapshot, of this version, has folded every row.
    """

    requests: int
    judged: int
    decisions: int
    outcomes: int
    feedback: int
    rewards: int
    snapshot_version: int
    learned: bool

    @property
    def complete(self) -> bool:
        """Whether nothing was lost, and all was learned."""
        return (
            self.decisions == self.outcomes == self.requests
            and self.feedback == self.rewards == self.judged
            and self.learned
        )


async def audit(place: Workspace, models: Sequence[str], answered: Sequence[Answered]) -> Audit:
    """Read the running service's own database until all is there, or patience is at its end."""
    # Attaches: the server is the service's own, which stops it.
    server = await asyncio.to_thread(EmbeddedPostgres(place.data_dir).start)
    engine = make_engine(server.url, pool_size=1, max_overflow=0)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            found = await _look(engine, models, answered)
            if found.complete or time.monotonic() > deadline:
                return found
            await asyncio.sleep(POLL_S)
    finally:
        await engine.dispose()
        server.stop()


async def _look(engine: AsyncEngine, models: Sequence[str], answered: Sequence[Answered]) -> Audit:
    with store_errors(engine):
        async with engine.connect() as connection:
            rows = {row.id: row for row in await connection.execute(ROWS)}
            version, all_rows = await _learned(connection)
    judged = [a for a in answered if a.quality is not None]
    kept = [(a, rows[a.decision_id]) for a in answered if a.decision_id in rows]
    return Audit(
        requests=len(answered),
        judged=len(judged),
        decisions=len(kept),
        outcomes=sum(_is_outcome_of(a, row, models) for a, row in kept),
        feedback=sum(row.feedback for _, row in kept),
        rewards=sum(
            a.quality is not None and row.reward is not None and abs(row.reward - a.quality) < 1e-9
            for a, row in kept
        ),
        snapshot_version=version,
        learned=all_rows,
    )


def _is_outcome_of(answered: Answered, row: Any, models: Sequence[str]) -> bool:
    if row.answered_by is None:
        return False
    return answered.arm < 0 or row.answered_by == models[answered.arm]


async def _learned(connection: AsyncConnection) -> tuple[int, bool]:
    found = (await connection.execute(LEARNED)).one_or_none()
    return (0, False) if found is None else (int(found.version), bool(found.all_rows))
