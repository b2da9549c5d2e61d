"""The database connection: one engine a process, made from whatever URL the operator wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg  # type: ignore[import-untyped]
import orjson
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bandit_router.errors import ConfigError, StoreError, StoreUnavailable

OLDEST_VERSION = 14
DRIVER = "postgresql+asyncpg"
# Classes 08 (connection), 53 (too many connections, disk or memory out), 57P (shutting down).
UNAVAILABLE_STATES = ("08", "53", "57P")
CONNECT_TIMEOUT_S = 10.0
# How a connection outside the pool can fail; the driver answers a call that races with the
# server's farewell by an InternalClientError.
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def database_url(url: str) -> URL:
    """Parse ``postgresql://``, ``postgres://`` or ``postgresql+asyncpg://``.

    Raises ConfigError for any other database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "store.url is no database URL; write postgresql://user:password@host:5432/database"
        ) from error
    if parsed.drivername not in ("postgres", "postgresql", DRIVER):
        raise ConfigError(
            f"store.url names '{parsed.drivername}'; the store speaks Postgres only: write "
            "postgresql://user:password@host:5432/database, or leave it out for the embedded one"
        )
    return parsed.set(drivername=DRIVER)


def make_engine(url: str | URL, *, pool_size: int = 8, max_overflow: int = 8) -> AsyncEngine:
    """An engine on a Postgres; connects on first use. The caller disposes of it."""
    parsed = database_url(url) if isinstance(url, str) else url
    return create_async_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=CONNECT_TIMEOUT_S,
        # The standard library's would bring 1e300 back as an integer, which JSON writers refuse.
        json_deserializer=orjson.loads,
        connect_args={"timeout": CONNECT_TIMEOUT_S, "server_settings": {"jit": "off"}},
    )


async def check_server(engine: AsyncEngine) -> str:
    """Connect and return the server's version, for example ``18.4``.

    Raises StoreUnavailable when nothing answers, StoreError when it is older than 14.
    """
    with store_errors(engine):
        async with engine.connect() as connection:
            number = int(str(await connection.scalar(text("SHOW server_version_num"))))
    if number < OLDEST_VERSION * 10_000:
        raise StoreError(
            f"Postgres {number // 10_000} at {shown(engine)} is too old; the store needs "
            f"{OLDEST_VERSION} or newer"
        )
    return f"{number // 10_000}.{number % 10_000}"


async def driver_connection(engine: AsyncEngine) -> asyncpg.Connection:
    """A connection outside the pool, for what must outlive a transaction: locks and LISTEN."""
    _, arguments = engine.sync_engine.dialect.create_connect_args(engine.url)
    known = ("host", "port", "user", "password", "database", "ssl")
    arguments = {name: arguments[name] for name in known if name in arguments}
    with store_errors(engine):
        return await asyncpg.connect(timeout=CONNECT_TIMEOUT_S, **arguments)


def shown(engine: AsyncEngine) -> str:
    """The engine's URL without its password, for messages."""
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def store_errors(engine: AsyncEngine) -> Iterator[None]:
    """Turn the driver's errors into StoreUnavailable (try again) or StoreError (do not)."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        lost = error.connection_invalidated or isinstance(error, InterfaceError)
        if lost or state.startswith(UNAVAILABLE_STATES):
            raise _unavailable(engine, error.orig) from error
        raise StoreError(f"Postgres refused: {error.orig}") from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith((*UNAVAILABLE_STATES, "28", "3D")):
            raise _unavailable(engine, error) from error
        raise StoreError(f"Postgres refused: {error}") from error
    except (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _unavailable(engine, error) from error


def _unavailable(engine: AsyncEngine, error: BaseException | None) -> StoreUnavailable:
    reason = str(error) or type(error).__name__
    return StoreUnavailable(
        f"no database at {shown(engine)}: {reason}; start Postgres, or mend store.url or "
        "DATABASE_URL, or leave both out for the embedded one"
    )
