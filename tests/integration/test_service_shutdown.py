"""SIGTERM to the real service with requests under way: what ends in time ends well, the rest is
told, all of it is booked, and the exit code is 0."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import ASK, Process, service_process
from sqlalchemy import text
from test_service_crash import log_in, write_config

from bandit_router.config_file import load_config
from bandit_router.errors import ConfigError
from simulations.faults.misbehaving import (
    Behaviour,
    Exchange,
    delta,
    event,
    misbehaving,
    silence,
    stream_of,
)

PATIENCE_S = 3.0
PAUSE_S = 0.25
# The short one ends well within the patience, even on a busy machine; the long one never does.
SHORT, LONG = 6, 400
OUTCOMES = text(
    "SELECT d.id::text, o.answered_by, o.output_tokens, a.status FROM decisions d "
    "LEFT JOIN outcomes o ON o.decision_id = d.id LEFT JOIN attempts a ON a.decision_id = d.id"
)


def words(count: int) -> Behaviour:
    pieces = [event(delta("word ")) for _ in range(count)]
    return stream_of(*pieces, event(delta(None, "stop")), b"data: [DONE]\n\n", pause_s=PAUSE_S)


async def as_asked(exchange: Exchange) -> None:
    """A short stream, a long one, or no answer at all, by what the prompt says."""
    wanted = exchange.body["messages"][0]["content"]
    await {"short": words(SHORT), "long": words(LONG), "never": silence}[wanted](exchange)


class Caller:
    """One request, and all that came back."""

    def __init__(self, client: httpx.AsyncClient, prompt: str) -> None:
        self._client = client
        self.body = {**ASK, "stream": prompt != "never"}
        self.body["messages"] = [{"role": "user", "content": prompt}]
        self.begun = asyncio.Event()
        self.status = 0
        self.decision_id = ""
        self.events: list[bytes] = []
        self.raw = b""

    async def ask(self) -> None:
        async with self._client.stream("POST", "/v1/chat/completions", json=self.body) as got:
            self.status = got.status_code
            self.decision_id = got.headers.get("x-router-decision-id", "")
            async for line in got.aiter_lines():
                self.raw += line.encode()
                if line.startswith("data: "):
                    self.events.append(line.removeprefix("data: ").encode())
                    self.begun.set()


@pytest.mark.asyncio
async def test_sigterm_lets_streams_end_tells_the_late_ones_and_books_everything(
    open_folder: Path,
) -> None:
    async with misbehaving(as_asked) as upstream:
        path = write_config(open_folder, upstream.base_url, 0.25)
        path.write_text(path.read_text() + f"[server]\nshutdown_s = {PATIENCE_S}\n")
        with service_process(path) as service:
            async with httpx.AsyncClient(
                base_url=service.url, timeout=30.0, trust_env=False
            ) as client:
                short, long, never = (Caller(client, p) for p in ("short", "long", "never"))
                async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                    for caller in (never, long, short):
                        group.create_task(caller.ask())
                    await asyncio.gather(short.begun.wait(), long.begun.wait())
                    while len(upstream.bodies) < 3:
                        await asyncio.sleep(0.02)
                    service.process.send_signal(signal.SIGTERM)
                    await refused(service)
            assert await asyncio.to_thread(service.process.wait, 30.0) == 0, service.log
    assert short.events[-1] == b"[DONE]"
    assert b"error" not in short.raw
    assert told(long.events[-1]) == "shutting_down"
    assert b"[DONE]" not in long.raw
    assert (never.status, told(never.raw)) == (503, "shutting_down")
    async with log_in(open_folder) as engine, engine.connect() as connection:
        booked = {row.id: row for row in await connection.execute(OUTCOMES)}
    assert len(booked) == 3
    assert booked[short.decision_id].status == "ok"
    assert booked[long.decision_id].status == "cancelled"
    assert booked[long.decision_id].output_tokens >= len(long.events) - 2 > 0
    (last,) = booked.keys() - {short.decision_id, long.decision_id}
    assert (booked[last].answered_by, booked[last].status) == (None, "cancelled")


async def refused(service: Process) -> None:
    """Until a new connection is refused; requests under way go on meanwhile."""
    async with httpx.AsyncClient(base_url=service.url, timeout=5.0, trust_env=False) as stranger:
        while True:
            try:
                await stranger.get("/health/live")
            except (httpx.ConnectError, httpx.RemoteProtocolError):
                # Refused, or taken by the kernel just before and closed unanswered.
                break
            await asyncio.sleep(0.02)
    assert service.process.poll() is None


def told(raw: bytes) -> str:
    found: dict[str, Any] = json.loads(raw)
    return str(found["error"]["code"])


@pytest.mark.parametrize("patience", ["0", "-1", '"soon"'])
def test_a_patience_that_is_none_is_refused(open_folder: Path, patience: str) -> None:
    path = write_config(open_folder, "http://127.0.0.1:9/v1", 0.25)
    path.write_text(path.read_text() + f"[server]\nshutdown_s = {patience}\n")
    with pytest.raises(ConfigError, match="shutdown_s"):
        load_config(path)
