"""Many requests through a real service while its models fail: nothing lost, nothing hung, no
memory kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import ARRAY, Uuid, bindparam, text

from bandit_router.errors import DemoError
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
from simulations.demo.service_process import running_service
from simulations.demo.workspace import Workspace, workspace
from simulations.faults.misbehaving import (
    Behaviour,
    Exchange,
    answer,
    failing_stream,
    hang_up,
    misbehaving,
    refuse,
    respond,
    silence,
    truncate,
)
from simulations.faults.process_memory import growth_over_half, python_memory_mb

MODELS = ("small", "middle", "large")
STREAMED, RATED, LEAVING = 0.3, 0.2, 0.02
LEAVES_WITHIN_S = 0.05
# Many times what the chain below may take: a request that is not over by then hangs.
HUNG_S = 60.0
SAMPLES = 40
# From the half of the run to its end; caches fill before. Shorter runs are not judged.
MOST_GROWTH = 0.02
LEAST_TO_JUDGE = 5_000
GROWTH = {
    "service": "memory_growth_in_second_half",
    "learner": "memory_growth_of_learner_in_second_half",
}
FAULTS: tuple[Behaviour, ...] = (
    refuse(500),
    refuse(503),
    refuse(429, Retry_After="0"),
    respond(200, b"{not json"),
    hang_up,
    truncate,
    silence,
    failing_stream(hang_up),
    failing_stream(silence),
)
# A fit takes memory by its rows, up to refit_rows: so many there are well before the half.
CONFIG = """
[policy]
name = "thompson"
[rewards.quality]
type = "float"
range = [0.0, 1.0]
[fallback]
attempt_timeout_s = 5.0
first_token_timeout_s = 0.5
idle_timeout_s = 0.5
num_retries = 1
backoff_s = 0.01
allowed_fails = 20
cooldown_time_s = 0.5
deadline_s = 20.0
[learner]
refit_rows = 4000
[store]
data_dir = "data"
"""
MISSING = text(
    "SELECT count(*) FROM unnest(:ids) AS given(id) "
    "WHERE NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.id = given.id)"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
OPEN = text(
    "SELECT count(*) FROM decisions d "
    "WHERE NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.decision_id = d.id)"
)
JUDGED = text("SELECT count(DISTINCT decision_id) FROM feedback")


@dataclass
class Tally:
    """What the callers saw."""

    ended: Counter[str] = field(default_factory=Counter)
    decisions: list[UUID] = field(default_factory=list)
    rated: int = 0
    hung: int = 0


def run_soak(
    requests: int,
    connections: int,
    fault_share: float,
    seed: int,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, Any]:
    """Send the requests and count what is missing; ``problems`` is empty when all went well.

    Raises DemoError where the service does not start or dies.
    """
    with workspace(keep=False) as place:
        tally, memory_mb, injected = asyncio.run(
            _load(place, requests, connections, fault_share, seed, on_stage, on_step)
        )
        lost = asyncio.run(_lost(place, tally))
    rss_mb = [of_each[0] for of_each in memory_mb]
    learner_mb = [sum(of_each[1:]) for of_each in memory_mb]
    report = {
        "requests": requests,
        "connections": connections,
        "calls_made_to_fail": injected,
        "ended": dict(tally.ended),
        "hung": tally.hung,
        **lost,
        "rss_mb": rss_mb,
        "memory_growth_in_second_half": growth_over_half(rss_mb),
        "rss_mb_of_learner": learner_mb,
        "memory_growth_of_learner_in_second_half": growth_over_half(learner_mb),
    }
    return {**report, "problems": problems_of(report)}


def problems_of(report: dict[str, Any]) -> list[str]:
    """What a report shows that must not be."""
    found = [
        f"{report[what]} {what.replace('_', ' ')}"
        for what in ("hung", "lost_decisions", "lost_outcomes", "lost_feedback")
        if report[what]
    ]
    for whose, name in GROWTH.items():
        if report["requests"] >= LEAST_TO_JUDGE and report[name] > MOST_GROWTH:
            found.append(f"the {whose}'s memory grew by {report[name]:.1%} in the second half")
    return found


async def _load(
    place: Workspace,
    requests: int,
    connections: int,
    fault_share: float,
    seed: int,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> tuple[Tally, list[list[float]], int]:
    dice, injected, tally = random.Random(seed), 0, Tally()

    async def behave(exchange: Exchange) -> None:
        nonlocal injected
        fails = dice.random() < fault_share
        injected += fails
        await (dice.choice(FAULTS) if fails else answer)(exchange)

    async with misbehaving(behave) as upstream:
        # It keeps what it was sent, for tests; here that would be all requests.
        upstream.bodies, upstream.headers = _Forgetful(), _Forgetful()
        place.config_path.write_text(_config_text(upstream.base_url, place.port), encoding="utf-8")
        # It starts and stops in the main thread, since it minds signals; nobody calls meanwhile.
        with running_service(place) as process:
            on_stage("requests", requests)
            memory_mb = [python_memory_mb(process.pid)]
            every = max(1, requests // SAMPLES)

            def over() -> None:
                on_step()
                if sum(tally.ended.values()) % every == 0:
                    memory_mb.append(python_memory_mb(process.pid))

            await _callers(place.url, requests, connections, random.Random(seed + 1), tally, over)
        if process.returncode != 0:
            raise DemoError(f"the service ended with exit code {process.returncode}")
    return tally, memory_mb, injected


async def _callers(
    url: str,
    requests: int,
    connections: int,
    dice: random.Random,
    tally: Tally,
    over: Callable[[], None],
) -> None:
    numbers = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(HUNG_S)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:

        async def one_connection() -> None:
            for number in numbers:
                tally.ended[await _one(session, number, dice, tally)] += 1
                over()

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(one_connection())


async def _one(
    session: aiohttp.ClientSession, number: int, dice: random.Random, tally: Tally
) -> str:
    """One request and, now and then, a rating; returns how it ended."""
    stream, leaves, rates = (dice.random() < share for share in (STREAMED, LEAVING, RATED))
    body = {
        "model": "auto",
        "stream": stream,
        "messages": [{"role": "user", "content": f"Sum {number} and {number % 7}."}],
    }
    try:
        patience = dice.random() * LEAVES_WITHIN_S if leaves else HUNG_S
        async with (
            asyncio.timeout(patience),
            session.post("/v1/chat/completions", json=body) as got,
        ):
            decision = got.headers.get("x-router-decision-id")
            if decision is not None:
                tally.decisions.append(UUID(decision))
            raw = await got.read()
            ended = str(got.status)
            if stream and got.status == 200 and not raw.endswith(b"data: [DONE]\n\n"):
                ended = "error in stream" if b'"error"' in raw else "cut off"
    except TimeoutError:
        if leaves:
            return "left"
        tally.hung += 1
        return "hung"
    except aiohttp.ClientError as error:
        return type(error).__name__
    if rates and ended == "200" and decision is not None:
        signal = {"decision_id": decision, "metric": "quality", "value": number % 3 / 2}
        async with session.post("/v1/feedback", json=signal) as told:
            tally.rated += told.status < 300
            if told.status >= 300:
                return f"feedback {told.status}"
    return ended


async def _lost(place: Workspace, tally: Tally) -> dict[str, int]:
    """What the log lacks, once the service has ended."""
    server = EmbeddedPostgres(place.data_dir)
    await asyncio.to_thread(server.start)
    try:
        engine = make_engine(server.url, pool_size=1)
        async with engine.connect() as connection:
            missing = await connection.scalar(MISSING, {"ids": tally.decisions})
            judged = await connection.scalar(JUDGED)
            lost = {
                "lost_decisions": int(missing or 0),
                "lost_outcomes": int(await connection.scalar(OPEN) or 0),
                "lost_feedback": tally.rated - int(judged or 0),
            }
        await engine.dispose()
    finally:
        await asyncio.to_thread(server.stop)
    return lost


def _config_text(base_url: str, port: int) -> str:
    models = "".join(f'[[models]]\nname = "{name}"\nbase_url = "{base_url}"\n' for name in MODELS)
    return models + CONFIG + f'[server]\nhost = "127.0.0.1"\nport = {port}\n'


class _Forgetful(list[dict[str, Any]]):
    def append(self, item: dict[str, Any]) -> None:
        """Keep nothing."""
