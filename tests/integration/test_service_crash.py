"""kill -9 of the real service at the worst moments; nothing is lost and nothing is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from service_process import ASK, Process, eventually, leads, service_process
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router import learning, snapshot
from bandit_router.config_file import load_config
from bandit_router.features import build_extractor
from bandit_router.router import policy_of, problem_of
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.learner_store import PostgresLearnerStore
from simulations.faults.misbehaving import answer, misbehaving, silence

CONFIG = """
[[models]]
name = "small"
base_url = "{base_url}"
output_usd_per_million = 1.0

[[models]]
name = "large"
base_url = "{base_url}"
output_usd_per_million = 9.0

[learner]
interval_s = {interval_s}

[store]
data_dir = "{folder}"
"""
SIGNALS = 40


def write_config(folder: Path, base_url: str, interval_s: float) -> Path:
    path = folder / "router.toml"
    path.write_text(CONFIG.format(base_url=base_url, interval_s=interval_s, folder=folder))
    return path


def client_of(service: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, timeout=20.0, trust_env=False)


@asynccontextmanager
async def log_in(folder: Path) -> AsyncIterator[AsyncEngine]:
    """The database of the service that runs on this folder, or ran there."""
    with EmbeddedPostgres(folder) as server:
        engine = make_engine(server.url, pool_size=2)
        try:
            yield engine
        finally:
            await engine.dispose()


async def ids(engine: AsyncEngine, table: str, column: str) -> list[str]:
    async with engine.connect() as connection:
        found = await connection.scalars(text(f"SELECT {column}::text FROM {table}"))
        return sorted(found)


async def ask(client: httpx.AsyncClient) -> str:
    got = await client.post("/v1/chat/completions", json=ASK)
    assert got.status_code == 200, got.text
    return got.headers["x-router-decision-id"]


@pytest.mark.asyncio
async def test_killed_between_decision_and_outcome_the_decision_stands_as_outcome_unknown(
    open_folder: Path,
) -> None:
    async with misbehaving(answer, silence) as upstream:
        config = write_config(open_folder, upstream.base_url, 0.1)
        with service_process(config) as service:
            async with client_of(service) as client:
                answered = await ask(client)
                hanging = [asyncio.create_task(ask(client)) for _ in range(3)]
                async with log_in(open_folder) as engine:

                    async def stored() -> list[str] | None:
                        found = await ids(engine, "decisions", "id")
                        ended = await ids(engine, "outcomes", "decision_id")
                        return found if len(found) == 4 and ended == [answered] else None

                    before = await eventually(stored)
                service.kill()
                lost = await asyncio.gather(*hanging, return_exceptions=True)
                assert all(isinstance(error, httpx.TransportError) for error in lost)
        with service_process(config) as service:
            async with client_of(service) as client:
                async with log_in(open_folder) as engine:
                    assert await ids(engine, "decisions", "id") == before
                    assert await ids(engine, "outcomes", "decision_id") == [answered]
                for decision_id in before:
                    found = (await client.get(f"/admin/decisions/{decision_id}")).json()
                    assert (found["outcome"] is not None) == (decision_id == answered)
                    assert found["pmf_check"]["equal"] is True
                # Feedback on an answer whose end nobody saw still counts, for the chosen model.
                signal = {"decision_id": before[-1], "metric": "quality", "value": 1.0}
                judged = await client.post("/v1/feedback", json=signal)
                assert judged.json()["reward"] == 1.0


@pytest.mark.asyncio
async def test_killed_between_feedback_and_learning_the_state_is_the_fold_of_the_log(
    open_folder: Path,
) -> None:
    async with misbehaving(answer) as upstream:
        # The first fold comes at once, the next one not in this test's life.
        config = write_config(open_folder, upstream.base_url, 3600.0)
        with service_process(config) as service:
            async with client_of(service) as client:
                await eventually(lambda: leads(client), within_s=20.0)
                first = await ask(client)

                async def folded() -> int | None:
                    version = (await client.get("/health/ready")).json()["snapshot_version"]
                    return version if version > 1 else None

                version = await eventually(folded)
                decisions = [first] + [await ask(client) for _ in range(SIGNALS - 1)]
                acknowledged = await judge_until_killed(client, decisions, service)
        assert len(acknowledged) >= SIGNALS // 2
        write_config(open_folder, upstream.base_url, 0.1)
        with service_process(config):
            async with log_in(open_folder) as engine:
                stored = await ids(engine, "feedback", "decision_id")
                assert set(acknowledged) <= set(stored)
                assert await ids(engine, "decisions", "id") == sorted(decisions)
                await assert_state_is_the_fold(engine, config, above=version, rewards=len(stored))


async def judge_until_killed(
    client: httpx.AsyncClient, decisions: Sequence[str], service: Process
) -> list[str]:
    """Post feedback from many callers and kill the service meanwhile; what was acknowledged."""
    acknowledged: list[str] = []

    async def judge(number: int, decision_id: str) -> None:
        value = number / len(decisions)
        signal = {"decision_id": decision_id, "metric": "quality", "value": value}
        got = await client.post("/v1/feedback", json=signal)
        assert got.status_code == 200, got.text
        acknowledged.append(decision_id)

    half = len(decisions) // 2
    for number, decision_id in enumerate(decisions[:half]):
        await judge(number, decision_id)
    racing = [
        asyncio.create_task(judge(number, decision_id))
        for number, decision_id in enumerate(decisions[half:], start=half)
    ]
    await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    service.kill()
    for error in await asyncio.gather(*racing, return_exceptions=True):
        assert error is None or isinstance(error, httpx.TransportError)
    return acknowledged


async def assert_state_is_the_fold(
    engine: AsyncEngine, config_path: Path, *, above: int, rewards: int
) -> None:
    """Fold the log by hand from the newest full state, and compare bit for bit."""
    config = load_config(config_path)
    policy = policy_of(config)
    problem = problem_of(config, build_extractor(config.features))
    store = PostgresLearnerStore(engine)

    async def caught_up() -> Any:
        latest = await store.latest_snapshot(policy.name)
        assert latest is not None
        async with engine.connect() as connection:
            last = (
                await connection.execute(
                    text("SELECT xid, seq FROM rewards ORDER BY xid DESC, seq DESC LIMIT 1")
                )
            ).one()
        return latest if latest.cursor == (last.xid, last.seq) else None

    latest = await eventually(caught_up, within_s=20.0)
    assert latest.version > above
    summaries = await InspectionStore(engine).snapshots(policy.name)
    full = max(s.version for s in summaries if s.reason != "fold" and s.version <= latest.version)
    base = await store.snapshot(policy.name, full)
    assert base is not None
    state = snapshot.from_bytes(problem, policy, base.payload)
    for row in await store.rows_between(base.cursor, latest.cursor):
        state = learning.fold(problem, policy, state, row)
    assert snapshot.to_bytes(problem, policy, state) == latest.payload
    # And the log tells of every acknowledged signal: none was lost on the way to the learner.
    assert state.rewards.sum() == rewards
    found = await store.decision(UUID((await ids(engine, "decisions", "id"))[0]))
    assert found is not None
