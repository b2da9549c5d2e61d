"""One client process: so many connections, each sending its next request after its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from bandit_router.errors import DemoError
from simulations.gateway.target import Cpu, Target

# The share of answers that are rated: it is what keeps the learner learning.
FEEDBACK_EVERY = 10
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one load on one target measured."""

    latency_s: np.ndarray
    duration_s: float
    cpu: Cpu

    def report(self) -> dict[str, float]:
        """Requests per second, latency in milliseconds, CPU per request in microseconds."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) * 1e3
        count = len(self.latency_s)
        return {
            "requests": count,
            "requests_per_s": count / self.duration_s,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "cpu_us_per_request": self.cpu.server_s / count * 1e6,
            "learner_cpu_us_per_request": self.cpu.learner_s / count * 1e6,
            "postgres_cpu_us_per_request": self.cpu.postgres_s / count * 1e6,
        }


async def run_load(
    target: Target,
    *,
    requests: int,
    connections: int,
    stream: bool,
    on_request: Callable[[], None],
) -> Load:
    """Send the requests; every tenth answer is rated where the target takes ratings.

    A rating's time is not in the latency, but its CPU is in the server's.
    Raises DemoError at the first answer that is not 200.
    """
    numbers = iter(range(requests))
    latency_s = np.zeros(requests)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(TIMEOUT_S)

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def post(path: str, body: dict[str, Any]) -> str | None:
            url = target.url + path
            async with session.post(url, json=body, headers=target.headers) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    raise DemoError(f"{url} answered {answer.status}: {text[:300]!r}")
                return answer.headers.get("x-router-decision-id")

        async def one_connection() -> None:
            for number in numbers:
                body = {
                    "model": target.model,
                    "stream": stream,
                    "messages": [{"role": "user", "content": f"Sum {number} and {number % 7}."}],
                }
                began_s = time.perf_counter()
                decision = await post(target.path, body)
                latency_s[number] = time.perf_counter() - began_s
                if target.rated and number % FEEDBACK_EVERY == 0:
                    rating = {"metric": "quality", "value": number % 3 / 2}
                    await post("/v1/feedback", {"decision_id": decision} | rating)
                on_request()

        before, began_s = target.cpu(), time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(one_connection())
        except* (DemoError, aiohttp.ClientError, TimeoutError) as errors:
            first = errors.exceptions[0]
            raise DemoError(f"{target.name}: {type(first).__name__}: {first}") from None
        duration_s = time.perf_counter() - began_s
        return Load(latency_s, duration_s, target.cpu().since(before))
