"""One embedded Postgres for all tests, and a fresh migrated database for each that asks."""

from __future__ import annotations

import os

# Before numpy is first imported: with a process per core, threads of the linear algebra only
# wait for each other, and fits take ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store import migrate
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import database_url, make_engine

TEMPLATE = "migrated_template"
_numbers = itertools.count()


def on_database(url: str, database: str) -> str:
    """The same server, another database."""
    return database_url(url).set(database=database).render_as_string(hide_password=False)


def run_apart(work: Awaitable[None]) -> None:
    """Run a coroutine from a synchronous fixture, on a loop of its own."""
    with asyncio.Runner() as runner:
        runner.run(_await(work))


async def _await(work: Awaitable[None]) -> None:
    await work


async def administer(url: str, *statements: str) -> None:
    """Run statements that no transaction may hold, such as CREATE DATABASE."""
    engine = make_engine(url, pool_size=1).execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder with a short path that the server's user can come down to."""
    folder = Path(tempfile.mkdtemp(prefix="br-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an embedded Postgres that lives as long as the tests do."""
    folder = Path(tempfile.mkdtemp(prefix="br-"))
    folder.chmod(0o755)
    # Only speed is given up: no test cuts the power.
    settings = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    with EmbeddedPostgres(folder, settings=settings) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> str:
    run_apart(administer(postgres_url, f"CREATE DATABASE {TEMPLATE}"))
    run_apart(migrate.upgrade(on_database(postgres_url, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """The URL of a new database without any table."""
    name = f"empty_{next(_numbers)}"
    run_apart(administer(postgres_url, f"CREATE DATABASE {name}"))
    yield on_database(postgres_url, name)
    run_apart(administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def store_url(postgres_url: str, _template: str) -> Iterator[str]:
    """The URL of a new, migrated, empty database."""
    name = f"store_{next(_numbers)}"
    run_apart(administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {_template}"))
    yield on_database(postgres_url, name)
    run_apart(administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest_asyncio.fixture
async def engine(store_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a new, migrated, empty database."""
    made = make_engine(store_url)
    yield made
    await made.dispose()
