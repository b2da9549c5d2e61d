"""The process: how it starts, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from chain_setup import http_model
from service_process import (
    ASK,
    Served,
    eventually,
    leads,
    router_config,
    runtime_of,
    served,
    service_process,
)
from sqlalchemy import text

from bandit_router.config import ServerConfig
from bandit_router.errors import ConfigError, StoreUnavailable
from bandit_router.store.engine import make_engine
from service.run import listen
from simulations.faults.misbehaving import Exchange, answer, misbehaving

CONFIG = """
[[models]]
name = "small"
base_url = "{base_url}"
"""


@pytest.mark.asyncio
async def test_told_to_stop_it_finishes_what_is_under_way_and_stores_it(
    open_folder: Path, store_url: str
) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        asked.set()
        await released.wait()
        await answer(exchange)

    async with misbehaving(slow) as upstream:
        config = open_folder / "router.toml"
        config.write_text(CONFIG.format(base_url=upstream.base_url))
        # A database of its own elsewhere, as in production, by the environment.
        with service_process(config, DATABASE_URL=store_url) as service:
            for said in ("small", "thompson", "postgres", "curl", "Ctrl-C", str(config)):
                assert said in service.log
            async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
                asking = asyncio.create_task(client.post("/v1/chat/completions", json=ASK))
                async with asyncio.timeout(10.0):
                    await asked.wait()
                stopping = asyncio.create_task(asyncio.to_thread(service.stop))
                await until_closed(service.url)
                assert not asking.done()
                released.set()
                got = await asking
                assert got.status_code == 200
                assert await stopping == 0
            assert "Traceback" not in service.log
    engine = make_engine(store_url)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT decision_id::text, status FROM outcomes"))
        assert found.all() == [(got.headers["x-router-decision-id"], "ok")]
    await engine.dispose()


async def until_closed(url: str) -> None:
    """Wait until new connections are refused."""
    port = int(url.rpartition(":")[2])
    async with asyncio.timeout(10.0):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_of_two_replicas_one_learns_and_the_other_follows(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url))
        async with AsyncExitStack() as replicas:
            leaving = AsyncExitStack()
            await replicas.enter_async_context(leaving)
            first = await leaving.enter_async_context(served(config))
            await eventually(lambda: leads(first.client))
            second = await replicas.enter_async_context(served(config))
            assert not await leads(second.client)
            decision_id = (await second.ask()).headers["x-router-decision-id"]
            await second.judge(decision_id, 1.0)
            await eventually(lambda: knows_a_reward(second))
            await leaving.aclose()
            await eventually(lambda: leads(second.client))


async def knows_a_reward(replica: Served) -> bool:
    return bool(replica.runtime.router.serving.state.rewards.sum() == 1.0)


@pytest.mark.asyncio
async def test_without_a_database_it_does_not_start_and_names_the_remedy() -> None:
    config = router_config(
        "postgresql://nobody@127.0.0.1:1/none", http_model("small", "http://127.0.0.1:1/v1")
    )
    with pytest.raises(StoreUnavailable, match="start Postgres"):
        await runtime_of(config).start()


def test_a_taken_port_is_told_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="--port"):
            listen(ServerConfig(port=port))
