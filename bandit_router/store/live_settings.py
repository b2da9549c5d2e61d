"""Settings that operators change while the router runs; every replica hears of a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.protocols import SnapshotRecord
from bandit_router.store.engine import store_errors
from bandit_router.store.learner_store import SNAPSHOTS_CHANNEL, snapshot_values
from bandit_router.store.rows import storable
from bandit_router.store.tables import learning_exclusions, live_settings, snapshots

LIVE_CHANNEL = "bandit_router_live"
# What is told on the channel: look at the settings again, or read the file again.
SETTINGS, FILE = "settings", "file"
# Decisions made after a moment, up to now.
RANGE = text(
    "SELECT coalesce((SELECT max(seq) FROM decisions WHERE created_at <= :since), 0) + 1, "
    "coalesce((SELECT max(seq) FROM decisions), 0)"
)


@dataclass(frozen=True, slots=True)
class WentBack:
    """was: the newest version before. version: the one that is newest now.
    excluded_decisions: how many teach nothing any more. exclusion: its id, 0 for none."""

    was: int
    version: int
    excluded_decisions: int
    exclusion: int


class LiveSettings:
    """Reads and writes of the control plane."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self) -> dict[str, Any]:
        """Every setting by its name."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(
                    select(live_settings.c.name, live_settings.c.value)
                )
                return {row.name: row.value for row in found}

    async def write(self, changes: Mapping[str, Any], *, actor: str) -> None:
        """Set some, and tell the replicas."""
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                for name, value in sorted(changes.items()):
                    await _set(connection, name, value, actor)
                await _tell(connection, LIVE_CHANNEL, SETTINGS)

    async def exchange(
        self, name: str, expected: Any, changes: Mapping[str, Any], *, actor: str
    ) -> bool:
        """Set some if ``name`` still has the value that they follow from; False where not.

        expected, and a change to None: not set. Of two who act at once, one does.
        """
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                await connection.execute(text("LOCK TABLE live_settings IN EXCLUSIVE MODE"))
                found = await connection.scalar(
                    select(live_settings.c.value).where(live_settings.c.name == name)
                )
                if found != expected:
                    return False
                gone = [key for key, value in changes.items() if value is None]
                await connection.execute(
                    delete(live_settings).where(live_settings.c.name.in_(gone))
                )
                for key, value in sorted(changes.items()):
                    if value is not None:
                        await _set(connection, key, value, actor)
                await _tell(connection, LIVE_CHANNEL, SETTINGS)
        return True

    async def forget(self, name: str) -> bool:
        """Go back to the file's; False when nothing was set."""
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                done = await connection.execute(
                    delete(live_settings).where(live_settings.c.name == name)
                )
                await _tell(connection, LIVE_CHANNEL, SETTINGS)
                return bool(done.rowcount)

    async def tell_to_reread(self) -> None:
        """Ask every replica to read its file again."""
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                await _tell(connection, LIVE_CHANNEL, FILE)

    async def go_back(
        self, record: SnapshotRecord, taken_at: datetime, *, keep_evidence: bool, reason: str
    ) -> WentBack:
        """Make an old state the newest one, under the next free version.

        record: the old state; its version is not looked at.
        taken_at: when the old state was stored. Decisions made since teach nothing any more,
        unless keep_evidence; exclusions made after taken_at are lifted, since the old state did
        not know them.
        """
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                # The learner writes versions too: none may come between the look and the insert.
                # He waits, finds his version taken, and goes on from this one.
                await connection.execute(text("LOCK TABLE snapshots IN SHARE ROW EXCLUSIVE MODE"))
                newest = await connection.scalar(
                    select(func.max(snapshots.c.version)).where(snapshots.c.policy == record.policy)
                )
                was = int(newest or 0)
                record = replace(record, version=was + 1)
                await connection.execute(
                    learning_exclusions.update()
                    .where(
                        learning_exclusions.c.created_at > taken_at,
                        learning_exclusions.c.lifted_at.is_(None),
                    )
                    .values(lifted_at=func.now())
                )
                first, last = (await connection.execute(RANGE, {"since": taken_at})).one()
                exclusion = 0
                if not keep_evidence and last >= first:
                    made = await connection.execute(
                        insert(learning_exclusions)
                        .values(first_seq=first, last_seq=last, reason=storable(reason))
                        .returning(learning_exclusions.c.id)
                    )
                    exclusion = int(made.scalar_one())
                await connection.execute(insert(snapshots).values(snapshot_values(record)))
                await _tell(connection, SNAPSHOTS_CHANNEL, f"{record.version} {record.policy}")
        left_out = last - first + 1 if exclusion else 0
        return WentBack(was, record.version, left_out, exclusion)


async def _set(connection: AsyncConnection, name: str, value: Any, actor: str) -> None:
    row = {"name": name, "value": storable(value), "actor": storable(actor)}
    upsert = insert(live_settings).values(row)
    await connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "value": upsert.excluded.value,
                "actor": upsert.excluded.actor,
                "updated_at": func.now(),
            },
        )
    )


async def _tell(connection: AsyncConnection, channel: str, payload: str) -> None:
    await connection.execute(
        text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload}
    )
