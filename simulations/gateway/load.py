"""One client process: so many connections, each sending its next request after its answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bandit_router.errors import DemoError

# The share of answers that are rated: it is what keeps the learner learning.
FEEDBACK_EVERY = 10


@dataclass(frozen=True, slots=True)
class Load:
    """What one load on one target measured; CPU is that of the target's server process."""

    latency_s: np.ndarray
    duration_s: float
    cpu_s: float

    def report(self) -> dict[str, float]:
        """Requests per second, latency in milliseconds, CPU per request in microseconds."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) * 1e3
        count = len(self.latency_s)
        return {
            "requests": count,
            "requests_per_s": count / self.duration_s,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "cpu_us_per_request": self.cpu_s / count * 1e6,
        }


def cpu_s(process_id: int) -> float:
    """User and system seconds of a process, its children's apart. Linux only.

    Raises DemoError where there is no /proc.
    """
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError as error:
        raise DemoError(
            f"CPU of process {process_id} cannot be read ({error}); run this on Linux"
        ) from error
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run_load(
    url: str,
    process_id: int,
    *,
    requests: int,
    connections: int,
    stream: bool,
    feedback: bool,
    on_request: Callable[[], None],
) -> Load:
    """Send the requests; every tenth answer is rated when feedback is on.

    A rating's time is not in the latency, but its CPU is in the server's.
    Raises DemoError at the first answer that is not 200.
    """
    numbers = iter(range(requests))
    latency_s = np.zeros(requests)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(path: str, body: dict[str, Any]) -> str | None:
            async with session.post(url + path, json=body) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    raise DemoError(f"{url}{path} answered {answer.status}: {text[:300]!r}")
                return answer.headers.get("x-router-decision-id")

        async def one_connection() -> None:
            for number in numbers:
                body = {
                    "model": "auto",
                    "stream": stream,
                    "messages": [{"role": "user", "content": f"Sum {number} and {number % 7}."}],
                }
                began_s = time.perf_counter()
                decision = await post("/v1/chat/completions", body)
                latency_s[number] = time.perf_counter() - began_s
                if feedback and number % FEEDBACK_EVERY == 0:
                    rating = {"metric": "quality", "value": number % 3 / 2}
                    await post("/v1/feedback", {"decision_id": decision} | rating)
                on_request()

        cpu_before_s, began_s = cpu_s(process_id), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(one_connection())
        duration_s = time.perf_counter() - began_s
        return Load(latency_s, duration_s, cpu_s(process_id) - cpu_before_s)
