"""The real service for tests: in this process over a real socket, or as a process to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from chain_setup import fallback

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, RouterConfig, StoreConfig
from service.app import create_app
from service.run import listen
from service.runtime import Runtime
from service.settings import read_settings

START_TIMEOUT_S = 60.0
ADDRESS = re.compile(r"listens on (http://\S+)")
ASK: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}
Found = TypeVar("Found")


def router_config(url: str | None, *models: ModelConfig, **sections: Any) -> RouterConfig:
    """A configuration on a database, with a chain that has no patience."""
    settings = {"fallback": fallback(), "store": StoreConfig(url=url), **sections}
    return RouterConfig(models=models, **settings)


def runtime_of(config: RouterConfig, **parts: Any) -> Runtime:
    settings = read_settings(config, {}, os.urandom)
    return Runtime(config, settings, clock=SystemClock(), random_bytes=os.urandom, **parts)


@dataclass
class Served:
    """A running service, and a client of it."""

    runtime: Runtime
    client: httpx.AsyncClient
    url: str

    async def ask(self, **changes: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json={**ASK, **changes})

    async def judge(self, decision_id: str, value: object, **changes: Any) -> httpx.Response:
        body = {"decision_id": decision_id, "metric": "quality", "value": value, **changes}
        return await self.client.post("/v1/feedback", json=body)

    async def decision(self, decision_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/admin/decisions/{decision_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ended(self, decision_id: str) -> dict[str, Any]:
        """The decision once its outcome is known."""

        async def known() -> dict[str, Any] | None:
            found = await self.decision(decision_id)
            return found if found["outcome"] else None

        return await eventually(known)


@asynccontextmanager
async def served(
    config: RouterConfig, *, parts: Mapping[str, Any] | None = None, **client_options: Any
) -> AsyncIterator[Served]:
    """The application on a loopback socket, and all that runs behind it. parts: of the runtime."""
    config = config.model_copy(update={"server": config.server.model_copy(update={"port": 0})})
    async with runtime_of(config, **(parts or {})) as runtime:
        listener = listen(config.server)
        server = uvicorn.Server(
            uvicorn.Config(create_app(runtime), lifespan="off", log_config=None, access_log=False)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(
            base_url=url, timeout=20.0, trust_env=False, **client_options
        ) as client:
            try:
                yield Served(runtime, client, url)
            finally:
                server.should_exit = True
                await serving


async def eventually(look: Callable[[], Awaitable[Found | None]], within_s: float = 10.0) -> Found:
    """What ``look`` finds once it finds something."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


async def leads(client: httpx.AsyncClient) -> bool:
    """Whether the service says that its learner folds the log."""
    return bool((await client.get("/health/ready")).json()["learner"] == "leads")


@dataclass
class Process:
    """``bandit-router serve`` as a process of its own."""

    process: subprocess.Popen[bytes]
    log_path: Path
    url: str = ""

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """As a crash or the out-of-memory killer does: no farewell."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As an operator does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_TIMEOUT_S)


@contextmanager
def service_process(config_path: Path, *options: str, **environ: str) -> Iterator[Process]:
    """Start the service on a free port, and end it with the block at the latest."""
    log_path = config_path.parent / f"service-{random.randrange(10**9)}.log"
    command = [sys.executable, "-c", "from bandit_router.cli import main; main()", "serve"]
    command += ["--config", str(config_path), "--port", "0", *options]
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with log_path.open("wb") as log:
        started = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**inherited, **environ}
        )
    found = Process(started, log_path)
    try:
        _wait_for_address(found)
        yield found
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(START_TIMEOUT_S)
        if started.poll() is None:
            started.kill()
            started.wait()


def _wait_for_address(found: Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while (address := ADDRESS.search(found.log)) is None:
        assert found.process.poll() is None, found.log
        assert time.monotonic() < deadline, found.log
        time.sleep(0.02)
    found.url = address[1]
