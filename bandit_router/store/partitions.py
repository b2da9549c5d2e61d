"""Days of the decision log: made ahead of time, dropped whole when they are too old."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.store.engine import store_errors

DEFAULT_PARTITION = "decisions_default"
PARTITION_PREFIX = "decisions_p"
# How far an id may lie from its created_at: made a little before, or by another clock.
ID_SLACK = timedelta(hours=1)
NO_SLACK = timedelta(0)
MOST_MILLISECONDS = 2**48 - 1
PARTITION_LOCK = 0x62616E64_70617274  # "bandpart"


def id_lower_bound(moment: datetime, slack: timedelta = NO_SLACK) -> UUID:
    """The smallest UUIDv7 of a moment: its first 48 bits are Unix milliseconds (RFC 9562).

    slack is added; before 1970 and beyond the calendar the nearest id there is.
    """
    milliseconds = int((moment.timestamp() + slack.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), MOST_MILLISECONDS) << 80)


def partition_name(day: date) -> str:
    """The name of a day's partition."""
    return f"{PARTITION_PREFIX}{day:%Y%m%d}"


def is_partition(name: str) -> bool:
    """Whether a table is a part of ``decisions``, which migrations must not look at."""
    return name == DEFAULT_PARTITION or name.startswith(PARTITION_PREFIX)


async def ensure_partitions(engine: AsyncEngine, now: datetime, *, days_ahead: int = 7) -> int:
    """Make the partitions of yesterday up to days_ahead; returns how many were missing.

    Call it at start and once a day. Rows that fell into the default partition because their
    day was missing move into it. Safe to call from several replicas at once.
    """
    today = now.astimezone(UTC).date()
    made = 0
    with store_errors(engine):
        for offset in range(-1, days_ahead + 1):
            async with engine.begin() as connection:
                made += await _ensure_day(connection, today + timedelta(days=offset))
    return made


async def drop_partitions_before(engine: AsyncEngine, moment: datetime) -> tuple[str, ...]:
    """Drop the days of decisions that lie wholly before a moment; returns their names."""
    last = partition_name(moment.astimezone(UTC).date())
    with store_errors(engine):
        async with engine.begin() as connection:
            found = await connection.scalars(
                text(
                    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                    "WHERE i.inhparent = 'decisions'::regclass ORDER BY 1"
                )
            )
            names = tuple(
                name for name in found if name.startswith(PARTITION_PREFIX) and name < last
            )
            for name in names:
                await connection.execute(text(f"DROP TABLE {name}"))
    return names


async def _ensure_day(connection: AsyncConnection, day: date) -> bool:
    name = partition_name(day)
    # Not to_regclass: its cache does not notice what happened while we waited for the lock.
    exists = text(
        "SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'decisions'::regclass AND c.relname = :name)"
    )
    if await connection.scalar(exists, {"name": name}):
        return False
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    if await connection.scalar(exists, {"name": name}):
        return False
    start = datetime.combine(day, time(), UTC)
    low, high = id_lower_bound(start), id_lower_bound(start + timedelta(days=1))
    # No row may slip into the default partition between the move and the attaching.
    await connection.execute(text(f"LOCK TABLE {DEFAULT_PARTITION} IN ACCESS EXCLUSIVE MODE"))
    await connection.execute(text(f"CREATE TABLE {name} (LIKE decisions INCLUDING DEFAULTS)"))
    await connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {DEFAULT_PARTITION} "
            f"WHERE id >= '{low}' AND id < '{high}' RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved"
        )
    )
    await connection.execute(
        text(
            f"ALTER TABLE decisions ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')"
        )
    )
    return True
