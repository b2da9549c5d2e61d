"""One replica learns: the holder of an advisory lock."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import LOST, driver_connection, store_errors

LEARNER_LOCK = 0x62616E64_6C656172  # "bandlear"
CHECK_TIMEOUT_S = 5.0


class LeaderLock:
    """A lock that the server frees by itself when its holder dies.

    It lives on a connection of its own; losing the connection is losing the lock.
    """

    def __init__(self, engine: AsyncEngine, key: int = LEARNER_LOCK) -> None:
        self._engine = engine
        self._key = key
        self._connection: asyncpg.Connection | None = None

    async def acquire(self) -> bool:
        """Try to become leader; True when this is the holder, now or already.

        Raises StoreUnavailable without a database.
        """
        if await self.held():
            return True
        connection = await driver_connection(self._engine)
        taken = False
        try:
            with store_errors(self._engine):
                asked = await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key)
                taken = bool(asked)
        finally:
            if not taken:
                await connection.close()
        self._connection = connection if taken else None
        return taken

    async def held(self) -> bool:
        """Whether the lock is held, asked of the server: a broken connection says no."""
        connection = self._connection
        if connection is None:
            return False
        try:
            await connection.fetchval("SELECT 1", timeout=CHECK_TIMEOUT_S)
        except LOST:
            self._connection = None
            connection.terminate()
            return False
        return True

    async def release(self) -> None:
        """Give the lock up; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=CHECK_TIMEOUT_S)
        except LOST:
            # The server frees the lock with the connection, however that ends.
            connection.terminate()
