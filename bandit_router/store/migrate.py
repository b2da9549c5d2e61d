"""Bringing a database to this version's schema, from wherever the package is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import bandit_router
from bandit_router.errors import StoreError
from bandit_router.store.engine import make_engine, store_errors
from bandit_router.store.partitions import is_partition
from bandit_router.store.rollup_tables import metadata

Found = TypeVar("Found")

# Replicas that start together wait here for the first to finish.
MIGRATION_LOCK = 0x62616E64_6D696772  # "bandmigr"


def migrations_folder() -> Path:
    """The packaged ``migrations`` folder, beside the ``bandit_router`` package."""
    return Path(str(bandit_router.__file__)).parent.parent / "migrations"


def newest_revision() -> str:
    """The revision that this version of the code expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise StoreError(f"no migrations in {migrations_folder()}: the installation is broken")
    return head


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to a revision; does nothing when it is there already."""
    await _run(url, lambda config: command.upgrade(config, revision))


async def downgrade(url: str, revision: str = "base") -> None:
    """Take the schema back to a revision. ``base`` drops every table and its data."""
    await _run(url, lambda config: command.downgrade(config, revision))


async def revise(url: str, message: str) -> None:
    """Write a new revision from the difference between the tables in code and the database."""
    await _run(url, lambda config: _write_revision(config, message))


async def current(url: str) -> str | None:
    """The revision a database is at, None when it is empty."""
    return await _inspect(
        url, lambda connection: MigrationContext.configure(connection).get_current_revision()
    )


async def check(url: str) -> list[str]:
    """How the database differs from the tables in code; empty when it does not."""

    def differences(connection: Connection) -> list[str]:
        options = {"include_name": _include_name, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return [str(difference) for difference in compare_metadata(context, metadata)]

    return await _inspect(url, differences)


def _include_name(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name is not None and is_partition(name))


def _write_revision(config: Config, message: str) -> None:
    command.revision(config, message, autogenerate=True)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def _run(url: str, step: Callable[[Config], None]) -> None:
    engine = make_engine(url, pool_size=1, max_overflow=0)
    lock, unlock = text("SELECT pg_advisory_lock(:key)"), text("SELECT pg_advisory_unlock(:key)")

    def apply(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        step(config)

    try:
        with store_errors(engine):
            async with engine.connect() as connection:
                await connection.execute(lock, {"key": MIGRATION_LOCK})
                await connection.commit()
                try:
                    await connection.run_sync(apply)
                    await connection.commit()
                finally:
                    await connection.rollback()
                    await connection.execute(unlock, {"key": MIGRATION_LOCK})
                    await connection.commit()
    finally:
        await engine.dispose()


async def _inspect(url: str, look: Callable[[Connection], Found]) -> Found:
    engine = make_engine(url, pool_size=1, max_overflow=0)
    try:
        with store_errors(engine):
            async with engine.connect() as connection:
                return await connection.run_sync(look)
    finally:
        await engine.dispose()
