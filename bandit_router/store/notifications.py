"""Hearing of new learner rows and snapshots: LISTEN on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import StoreUnavailable
from bandit_router.store.engine import LOST, driver_connection

RECONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class Notification:
    """What was heard. An empty payload on any channel says: look for yourself."""

    channel: str
    payload: str


class Notifications:
    """Listens to channels, across lost connections; an async iterator of ``Notification``.

    After every connect each channel is reported once with an empty payload, because what was
    sent meanwhile is lost. ``start`` raises StoreUnavailable without a database; from then on
    it reconnects by itself.
    """

    def __init__(
        self, engine: AsyncEngine, channels: Sequence[str], *, reconnect_s: float = RECONNECT_S
    ) -> None:
        self._engine = engine
        self._channels = tuple(channels)
        self._reconnect_s = reconnect_s
        self._heard: asyncio.Queue[Notification] = asyncio.Queue()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def start(self) -> Self:
        """Begin to listen; returns once every channel is heard."""
        await self._connect()
        self._task = asyncio.create_task(self._stay_connected(), name="notifications")
        return self

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self

    async def __anext__(self) -> Notification:
        return await self._heard.get()

    async def _connect(self) -> None:
        self._lost.clear()
        connection = await driver_connection(self._engine)
        connection.add_termination_listener(lambda _: self._lost.set())
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._hear)
        except LOST as error:
            connection.terminate()
            raise StoreUnavailable(f"the database went away while listening: {error}") from error
        self._connection = connection
        for channel in self._channels:
            self._heard.put_nowait(Notification(channel, ""))

    async def _stay_connected(self) -> None:
        while True:
            await self._lost.wait()
            try:
                await self._connect()
            except StoreUnavailable:
                self._lost.set()
                await asyncio.sleep(self._reconnect_s)

    def _hear(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        self._heard.put_nowait(Notification(channel, payload))
