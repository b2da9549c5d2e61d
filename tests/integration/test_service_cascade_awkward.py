"""Cascades where requests, callers, models and the service itself behave awkwardly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import ASK, Served, eventually, served, service_process
from sqlalchemy import text
from test_service_cascade import CAREFUL, Upstream, config_of
from test_service_crash import log_in, write_config
from test_service_keys import LOCKED
from test_service_limits import all_settled, booked_usd, key_of
from test_service_shutdown import refused, told

from bandit_router.store.embedded import EmbeddedPostgres
from simulations.faults.misbehaving import (
    Behaviour,
    Exchange,
    MisbehavingServer,
    delta,
    event,
    hang_up,
    misbehaving,
    refuse,
    respond,
    silence,
    stream_of,
)
from simulations.faults.misbehaving import whole as whole_answer

pytestmark = pytest.mark.asyncio
USAGE = {"prompt_tokens": 10, "completion_tokens": 10}
COST_USD = (10 * 1.0 + 10 * 2.0) / 1e6
REFUSES, ANSWERS = "I cannot help with that.", "391"
REFUSAL = {"kind": "refusal"}
WORD = event(delta("word "))
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
OUTCOMES = text(
    "SELECT d.id::text, d.influences, o.answered_by, o.cost_usd, a.status FROM decisions d "
    "LEFT JOIN outcomes o ON o.decision_id = d.id LEFT JOIN attempts a ON a.decision_id = d.id"
)


def says(*contents: str) -> Behaviour:
    """A choice per text, whole or streamed as the request asks."""

    async def behaviour(exchange: Exchange) -> None:
        if not exchange.body.get("stream"):
            choices = [
                {**whole_answer(content)["choices"][0], "index": index}
                for index, content in enumerate(contents)
            ]
            await respond(200, {**whole_answer(usage=USAGE), "choices": choices})(exchange)
            return
        chunks: list[dict[str, Any]] = []
        for index, content in enumerate(contents):
            for one in (delta(content), delta(None, "stop")):
                one["choices"][0]["index"] = index
                chunks.append(one)
        chunks.append({"choices": [], "usage": USAGE})
        await stream_of(*map(event, chunks), b"data: [DONE]\n\n")(exchange)

    return behaviour


def dripping(*raws: bytes) -> Behaviour:
    """These, then a word now and then until the peer leaves; notes that it did."""

    async def behaviour(exchange: Exchange) -> None:
        leaving = asyncio.create_task(exchange.wait_until_peer_leaves())

        async def drip(exchange: Exchange) -> None:
            while not leaving.done():
                with contextlib.suppress(ConnectionError):
                    await exchange.chunk(WORD)
                await asyncio.wait([leaving], timeout=0.05)

        await stream_of(*raws, then=drip)(exchange)
        await leaving
        exchange.cut()

    return behaviour


def by_model(**behaviours: Behaviour) -> Behaviour:
    async def behaviour(exchange: Exchange) -> None:
        await behaviours[exchange.body["model"]](exchange)

    return behaviour


@contextlib.asynccontextmanager
async def cascading(
    store_url: str, *checks: dict[str, Any], small: Behaviour, large: Behaviour, **changes: Any
) -> AsyncIterator[tuple[Served, MisbehavingServer]]:
    """A service whose cascade asks small, then large."""
    server = changes.pop("server", None)
    async with misbehaving(by_model(small=small, large=large)) as models:
        config = config_of(store_url, Upstream(url=models.base_url), *checks, **changes)
        if server is not None:
            config = config.model_copy(update={"server": server})
        async with served(config) as service:
            yield service, models


async def log_of(service: Served) -> list[Any]:
    """Decisions with their outcomes and attempts, the oldest first, once all have ended."""

    async def ended() -> list[Any] | None:
        async with service.runtime.engine.connect() as connection:
            rows = sorted(await connection.execute(OUTCOMES), key=lambda row: row.id)
        return rows if rows and all(row.status for row in rows) else None

    return await eventually(ended)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_bad_choice_of_several_asks_the_stronger_model_for_as_many(
    store_url: str, stream: bool
) -> None:
    small, large = says(ANSWERS, REFUSES), says(ANSWERS, ANSWERS)
    async with cascading(store_url, REFUSAL, small=small, large=large) as (service, models):
        got = await service.ask(**CAREFUL, n=2, stream=stream)
        assert got.headers["x-router-cascade"] == "escalated"
        assert [body["n"] for body in models.bodies] == [2, 2]
        assert REFUSES not in got.text
        assert got.text.count(ANSWERS) == 2
        for row in await log_of(service):
            assert row.cost_usd == pytest.approx(COST_USD)


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_tools_come_through_either_stage(store_url: str, stream: bool) -> None:
    called = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}

    async def calls(exchange: Exchange) -> None:
        if exchange.body.get("stream"):
            chunk = delta("")
            chunk["choices"][0]["delta"] = {"tool_calls": [{"index": 0, **called}]}
            done = b"data: [DONE]\n\n"
            await stream_of(event(chunk), event(delta(None, "tool_calls")), done)(exchange)
        else:
            body = whole_answer(usage=USAGE)
            body["choices"][0]["message"] = {
                "role": "assistant",
                "content": None,
                "tool_calls": [called],
            }
            body["choices"][0]["finish_reason"] = "tool_calls"
            await respond(200, body)(exchange)

    for small, how in ((calls, "passed"), (says(REFUSES), "escalated")):
        async with cascading(store_url, REFUSAL, small=small, large=calls) as (service, models):
            got = await service.ask(**CAREFUL, tools=[TOOL], stream=stream)
            assert got.headers["x-router-cascade"] == how
            assert all(body["tools"] == [TOOL] for body in models.bodies)
            if stream:
                first = json.loads(got.text.split("\n\n")[0].removeprefix("data: "))
                (given,) = first["choices"][0]["delta"]["tool_calls"]
                assert given == {"index": 0, **called}
            else:
                assert got.json()["choices"][0]["message"]["tool_calls"] == [called]


async def leave(service: Served, models: MisbehavingServer, calls: int, **changes: Any) -> None:
    """Ask, and hang up once so many calls have reached the models."""
    asking = asyncio.create_task(service.ask(**CAREFUL, **changes))
    async with asyncio.timeout(10.0):
        while len(models.bodies) < calls:
            await asyncio.sleep(0.01)
    # A word or two of the answer that nobody will read.
    await asyncio.sleep(0.15)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(5.0):
        await models.peer_left.wait()


async def test_a_caller_who_leaves_during_the_weak_attempt_ends_it_and_pays_for_its_words(
    store_url: str,
) -> None:
    small, large = dripping(WORD), says(ANSWERS)
    async with cascading(store_url, REFUSAL, small=small, large=large) as (service, models):
        await leave(service, models, 1, stream=True)
        (first,) = await log_of(service)
        assert first.status == "cancelled"
        assert first.cost_usd > 0.0
        assert (await service.decision(first.id))["feedback"] == []
        assert len(models.bodies) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_during_the_strong_attempt_ends_it_and_both_are_booked(
    store_url: str, stream: bool
) -> None:
    large = dripping(WORD, WORD) if stream else silence
    limits: dict[str, Any] = {"server": LOCKED}
    async with cascading(store_url, REFUSAL, small=says(REFUSES), large=large, **limits) as (
        service,
        models,
    ):
        service.client.headers.update(await key_of(service, usd_per_day=1.0))
        await leave(service, models, 2, stream=stream)
        first, second = await log_of(service)
        assert (first.status, second.status) == ("ok", "cancelled")
        assert first.cost_usd == pytest.approx(COST_USD)
        assert second.influences["escalated_from"] == first.id
        assert (second.cost_usd is not None) == stream
        if stream:
            # What a call that said nothing was billed nobody knows: it stays as reserved.
            await all_settled(service)
            spent_usd = first.cost_usd + second.cost_usd
            assert await booked_usd(service) == pytest.approx(spent_usd)


async def test_a_cap_in_dollars_holds_over_both_attempts(store_url: str) -> None:
    limits: dict[str, Any] = {"server": LOCKED}
    async with cascading(
        store_url, REFUSAL, small=says(REFUSES), large=says(ANSWERS), **limits
    ) as (service, models):
        cap_usd = 10 * COST_USD
        headers = await key_of(service, usd_per_day=cap_usd)
        body = {**ASK, **CAREFUL, "max_tokens": USAGE["completion_tokens"]}
        got = await asyncio.gather(
            *(
                service.client.post("/v1/chat/completions", json=body, headers=headers)
                for _ in range(20)
            )
        )
        await all_settled(service)
        spent_usd = len(models.bodies) * COST_USD
        assert spent_usd <= cap_usd + COST_USD
        assert await booked_usd(service) == pytest.approx(spent_usd)
        how = {one.headers.get("x-router-cascade", str(one.status_code)) for one in got}
        # Where the second attempt did not fit any more, the first answer was given.
        assert how <= {"escalated", "exhausted", "402"}
        assert {"exhausted", "402"} & how
        assert {one.status_code for one in got} <= {200, 402}


async def test_a_strong_stream_that_breaks_tells_and_one_that_never_begins_gives_the_first(
    store_url: str,
) -> None:
    large = stream_of(WORD, then=hang_up)
    async with cascading(store_url, REFUSAL, small=says(REFUSES), large=large) as (service, _):
        got = await service.ask(**CAREFUL, stream=True)
        assert got.headers["x-router-cascade"] == "escalated"
        *_, last = [line for line in got.text.split("\n\n") if line]
        assert "error" in json.loads(last.removeprefix("data: "))
        assert REFUSES not in got.text
        first, second = await log_of(service)
        assert (first.status, second.status) == ("ok", "stream_broken")
    for stream in (False, True):
        async with cascading(store_url, REFUSAL, small=says(REFUSES), large=refuse(500)) as (
            service,
            models,
        ):
            got = await service.ask(**CAREFUL, stream=stream)
            assert got.headers["x-router-cascade"] == "exhausted"
            assert REFUSES in got.text
            if not stream:
                assert int(got.headers["x-router-attempts"]) == len(models.bodies) == 3


async def test_where_the_database_goes_away_in_the_middle_the_first_answer_is_given(
    open_folder: Path,
) -> None:
    server = EmbeddedPostgres(open_folder, settings={"fsync": "off"}).start()

    async def small(exchange: Exchange) -> None:
        # The decision is being stored beside this call.
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.stop)
        await says(REFUSES)(exchange)

    try:
        async with cascading(server.url, REFUSAL, small=small, large=says(ANSWERS)) as (
            service,
            _,
        ):
            got = await service.ask(**CAREFUL)
            server.start()
            assert got.status_code == 200, got.text
            assert got.headers["x-router-cascade"] == "exhausted"
            assert REFUSES in got.text
            found = await service.ended(got.headers["x-router-decision-id"])
            assert found["outcome"]["answered_by"] == "small"
    finally:
        server.stop()


async def test_a_service_that_stops_during_either_attempt_tells_and_books(
    open_folder: Path,
) -> None:
    """Real process, SIGTERM: one request waits for the weak model, one for the strong one, and
    one reads the strong one's stream."""

    async def small(exchange: Exchange) -> None:
        prompt = exchange.body["messages"][0]["content"]
        await (silence if prompt == "weak" else says(REFUSES))(exchange)

    async def large(exchange: Exchange) -> None:
        await (dripping(WORD) if exchange.body.get("stream") else silence)(exchange)

    async with misbehaving(by_model(small=small, large=large)) as models:
        path = write_config(open_folder, models.base_url, 0.25)
        path.write_text(
            path.read_text()
            + "[server]\nshutdown_s = 1.0\n"
            + '[cascades.careful]\nfirst = ["small"]\nthen = ["large"]\n'
            + '[[cascades.careful.checks]]\nkind = "refusal"\n'
        )
        with service_process(path) as service:
            async with httpx.AsyncClient(base_url=service.url, timeout=30.0) as client:

                async def ask(prompt: str, stream: bool = False) -> httpx.Response:
                    messages = [{"role": "user", "content": prompt}]
                    body = {**ASK, **CAREFUL, "messages": messages, "stream": stream}
                    return await client.post("/v1/chat/completions", json=body)

                asking = [
                    asyncio.create_task(ask(*given))
                    for given in (("weak",), ("strong",), ("stream", True))
                ]
                async with asyncio.timeout(20.0):
                    while len(models.bodies) < 5:
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)
                service.process.send_signal(signal.SIGTERM)
                await refused(service)
                weak, strong, streamed = await asyncio.gather(*asking)
            assert await asyncio.to_thread(service.process.wait, 30.0) == 0, service.log
    assert (weak.status_code, told(weak.content)) == (503, "shutting_down")
    assert (strong.status_code, told(strong.content)) == (503, "shutting_down")
    *words, last = [line for line in streamed.text.split("\n\n") if line]
    assert words
    assert told(last.removeprefix("data: ").encode()) == "shutting_down"
    async with log_in(open_folder) as engine, engine.connect() as connection:
        rows = list(await connection.execute(OUTCOMES))
    found = sorted((row.status, "escalated_from" in row.influences) for row in rows)
    assert found == [
        ("cancelled", False),
        ("cancelled", True),
        ("cancelled", True),
        ("ok", False),
        ("ok", False),
    ]
