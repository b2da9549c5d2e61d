"""A group of decisions and endings in few round trips, past SQLAlchemy: the hot write path.

COPY takes a row at a third of the CPU of an insert, and one statement here costs a quarter of
one there. The columns are still those of the tables' rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import orjson
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@asynccontextmanager
async def driver_of(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """A pooled connection's driver; a connection that was lost leaves the pool."""
    async with engine.connect() as connection:
        driver = await _driver_in(connection)
        try:
            yield driver
        finally:
            if driver.is_closed():
                await connection.invalidate()


class HeldDriver:
    """A pooled connection's driver that one writer keeps from group to group.

    To take a connection out of the pool and to give it back costs as much as writing a row.
    After any error it goes back, and the next group gets another.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._held: tuple[AsyncConnection, asyncpg.Connection] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """The driver, for one at a time."""
        if self._held is None:
            connection = await self._engine.connect()
            self._held = connection, await _driver_in(connection)
        connection, driver = self._held
        try:
            yield driver
        except BaseException as error:
            # What the server refused leaves the connection as it was; anything else may not.
            if driver.is_closed() or not isinstance(error, asyncpg.PostgresError):
                await connection.invalidate()
            await self.give_back()
            raise

    async def give_back(self) -> None:
        """Return the connection to the pool, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            await held[0].close()


async def _driver_in(connection: AsyncConnection) -> asyncpg.Connection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    return driver


async def copy_rows(
    driver: asyncpg.Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Append rows, all with the columns of the first, in their order.

    Raises asyncpg.UniqueViolationError where one is there already; the transaction is then lost.
    """
    if not rows:
        return
    columns = tuple(rows[0])
    records: list[list[Any]] = [[row[name] for name in columns] for row in rows]
    for place, name in enumerate(columns):
        kind = table.c[name].type
        if isinstance(kind, JSONB):
            # A text to the driver, and NULL where SQLAlchemy would write that too.
            for record in records:
                if record[place] is not None or not kind.none_as_null:
                    record[place] = orjson.dumps(record[place]).decode()
    await driver.copy_records_to_table(table.name, records=records, columns=columns)
