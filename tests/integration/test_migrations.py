from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from store_samples import NOON, make_decision

from bandit_router.errors import ConfigError, StoreUnavailable
from bandit_router.store import migrate
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.engine import make_engine
from bandit_router.store.learner_store import PostgresLearnerStore
from bandit_router.store.partitions import (
    drop_partitions_before,
    ensure_partitions,
    id_lower_bound,
    partition_name,
)
from bandit_router.store.tables import metadata

OBJECTS = text(
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = 'public' ORDER BY 1"
)
PLACES = text("SELECT tableoid::regclass::text FROM decisions ORDER BY id")


async def objects(url: str) -> list[str]:
    engine = make_engine(url)
    async with engine.connect() as connection:
        found = list(await connection.scalars(OBJECTS))
    await engine.dispose()
    return found


@pytest.mark.asyncio
async def test_upgrade_from_empty_matches_the_tables_in_code(empty_url: str) -> None:
    assert await migrate.current(empty_url) is None
    assert len(await migrate.check(empty_url)) >= len(metadata.tables)
    await migrate.upgrade(empty_url)
    assert await migrate.current(empty_url) == migrate.newest_revision()
    assert await migrate.check(empty_url) == []
    assert set(metadata.tables) <= set(await objects(empty_url))


@pytest.mark.asyncio
async def test_check_sees_a_difference(empty_url: str) -> None:
    await migrate.upgrade(empty_url)
    engine = make_engine(empty_url)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE outcomes DROP COLUMN cost_usd"))
    await engine.dispose()
    (difference,) = await migrate.check(empty_url)
    assert "cost_usd" in difference


@pytest.mark.asyncio
async def test_downgrade_leaves_nothing_but_alembics_own_table(empty_url: str) -> None:
    await migrate.upgrade(empty_url)
    engine = make_engine(empty_url)
    await ensure_partitions(engine, NOON)
    await engine.dispose()
    await migrate.downgrade(empty_url)
    assert await objects(empty_url) == ["alembic_version", "alembic_version_pkc"]
    await migrate.upgrade(empty_url)
    assert await migrate.check(empty_url) == []


@pytest.mark.asyncio
async def test_replicas_that_start_together_migrate_once(empty_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_url) for _ in range(4)))
    assert await migrate.check(empty_url) == []


@pytest.mark.asyncio
async def test_no_database_is_said_clearly() -> None:
    with pytest.raises(StoreUnavailable, match="start Postgres"):
        await migrate.upgrade("postgresql://nobody@127.0.0.1:9/none")


@pytest.mark.asyncio
async def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="Postgres only"):
        await migrate.upgrade("sqlite:///router.db")


@pytest.mark.asyncio
async def test_decisions_land_in_the_partition_of_their_day(store_url: str) -> None:
    engine = make_engine(store_url)
    assert await ensure_partitions(engine, NOON, days_ahead=1) == 3
    assert await ensure_partitions(engine, NOON, days_ahead=1) == 0
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    moments = [NOON, midnight - timedelta(milliseconds=1), midnight, NOON + timedelta(days=9)]
    async with PostgresDecisionLog(engine) as log:
        for moment in moments:
            await log.record_decision(make_decision(moment))
    async with engine.connect() as connection:
        places = list(await connection.scalars(PLACES))
    await engine.dispose()
    assert places == [
        "decisions_p20260301",
        "decisions_p20260301",
        "decisions_p20260302",
        "decisions_default",
    ]


@pytest.mark.asyncio
async def test_rows_of_a_day_that_was_missing_move_to_its_partition(store_url: str) -> None:
    engine = make_engine(store_url)
    decision = make_decision()
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
    made = await asyncio.gather(*(ensure_partitions(engine, NOON, days_ahead=2) for _ in range(3)))
    async with engine.connect() as connection:
        places = list(await connection.scalars(PLACES))
    found = await PostgresLearnerStore(engine).decision(decision.id)
    await engine.dispose()
    assert sorted(made) == [0, 0, 4] or sum(made) == 4
    assert places == [partition_name(NOON.date())]
    assert found is not None
    assert await migrate.check(store_url) == []


@pytest.mark.asyncio
async def test_old_days_are_dropped_whole(store_url: str) -> None:
    engine = make_engine(store_url)
    await ensure_partitions(engine, NOON, days_ahead=1)
    old, new = make_decision(NOON - timedelta(days=1)), make_decision(NOON)
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(old)
        await log.record_decision(new)
    dropped = await drop_partitions_before(engine, NOON)
    store = PostgresLearnerStore(engine)
    gone, kept = await store.decision(old.id), await store.decision(new.id)
    await engine.dispose()
    assert dropped == ("decisions_p20260228",)
    assert gone is None
    assert kept is not None


def test_day_bounds_are_the_uuid_version_7_of_midnight() -> None:
    # RFC 9562, appendix A.6: 2022-02-22T19:22:22.000Z is 0x017F22E279B0.
    moment = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert str(id_lower_bound(moment)) == "017f22e2-79b0-0000-0000-000000000000"
