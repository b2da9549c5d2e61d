"""Failing models, callers who leave, a database that goes away: what the caller gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain_setup import fallback, http_model
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.store.embedded import EmbeddedPostgres
from simulations.faults.misbehaving import (
    LONG_S,
    Exchange,
    answer,
    delta,
    event,
    failing_stream,
    hang_up,
    misbehaving,
    refuse,
    refused_url,
    respond,
    silence,
    stream_of,
)


async def stored(service: Served, got: httpx.Response) -> dict[str, Any]:
    return await service.ended(got.headers["x-router-decision-id"])


@pytest.mark.asyncio
async def test_each_way_of_failing_has_its_status_and_is_booked(store_url: str) -> None:
    complaint = {"error": {"message": "seed must be an integer", "type": "x", "code": "y"}}
    cases = [
        ([refuse(500)], 502, "all_models_failed", "server_error"),
        ([hang_up], 502, "all_models_failed", "server_error"),
        ([refuse(401)], 502, "all_models_failed", "authentication"),
        ([refuse(429, retry_after="7")], 429, "rate_limit_exceeded", "rate_limited"),
        ([respond(422, complaint)], 422, "y", "rejected"),
        ([respond(400, b"<html>no</html>")], 400, "rejected", "rejected"),
    ]
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        for behaviours, status, code, booked in cases:
            upstream.behaviours[:] = behaviours
            got = await service.ask()
            assert got.status_code == status, got.text
            assert got.json()["error"]["code"] == code
            assert got.headers["x-request-id"]
            found = await stored(service, got)
            assert found["outcome"]["answered_by"] is None
            assert found["outcome"]["status"] == booked
            assert int(got.headers["x-router-attempts"]) == len(found["attempts"])
            if status == 429:
                assert got.headers["retry-after"] == "7"
            if status == 422:
                assert got.json() == complaint
        told = (await service.client.get("/admin/models")).json()["models"][0]
        assert told["reliability"] < 1.0
        assert "rate_limited" in told["breaker"]["reason"]


@pytest.mark.asyncio
async def test_the_next_model_answers_where_the_first_fails_and_gets_the_credit(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model("dead", refused_url()), http_model("good", upstream.base_url)]
        async with served(router_config(store_url, *models)) as service:
            fallen = None
            while fallen is None:
                got = await service.ask()
                assert got.json()["model"] == "good"
                fallen = got if got.headers["x-router-attempts"] == "2" else None
            found = await stored(service, got)
            assert found["decision"]["model"] == "dead"
            assert found["outcome"]["answered_by"] == "good"
            await service.judge(got.headers["x-router-decision-id"], 0.9)
            found = await service.decision(got.headers["x-router-decision-id"])
            # The failed call, the answer, and what it is worth.
            assert [row["arm"] for row in found["rewards"]] == ["dead", "good", "good"]


@pytest.mark.asyncio
async def test_a_chain_that_runs_out_of_time_is_a_504(store_url: str) -> None:
    async with misbehaving(silence) as upstream:
        config = router_config(
            store_url,
            http_model("small", upstream.base_url),
            fallback=fallback(deadline_s=0.3, attempt_timeout_s=5.0, num_retries=0),
        )
        async with served(config) as service:
            got = await service.ask()
            assert got.status_code == 504
            assert got.json()["error"]["code"] == "deadline_exceeded"
            assert (await stored(service, got))["outcome"]["status"] == "timeout"


@pytest.mark.asyncio
async def test_a_break_inside_a_stream_arrives_in_the_stream(store_url: str) -> None:
    async with (
        misbehaving(failing_stream(hang_up)) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        got = await service.ask(stream=True)
        assert got.status_code == 200
        events = [item for item in got.text.split("\n\n") if item]
        assert json.loads(events[0].removeprefix("data: "))["choices"]
        last = json.loads(events[-1].removeprefix("data: "))
        assert last["error"]["code"] == "stream_broken"
        assert "[DONE]" not in got.text
        found = await stored(service, got)
        assert found["outcome"]["status"] == "stream_broken"
        assert found["outcome"]["answered_by"] == "small"


@pytest.mark.asyncio
async def test_a_caller_who_leaves_cancels_the_upstream_and_is_booked(store_url: str) -> None:
    began = asyncio.Event()

    async def stall(exchange: Exchange) -> None:
        began.set()
        await silence(exchange)

    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("small", upstream.base_url),
            fallback=fallback(attempt_timeout_s=LONG_S, idle_timeout_s=LONG_S),
        )
        async with served(config) as service:
            upstream.behaviours[:] = [stream_of(event(delta("Because")), then=silence)]
            async with service.client.stream(
                "POST", "/v1/chat/completions", json={**ASK, "stream": True}
            ) as got:
                assert await anext(got.aiter_lines())
            async with asyncio.timeout(5.0):
                await upstream.peer_left.wait()
            found = await stored(service, got)
            assert found["outcome"]["status"] == "cancelled"
            assert found["outcome"]["answered_by"] == "small"
            assert found["outcome"]["output_tokens"] == 1

            upstream.peer_left.clear()
            upstream.behaviours[:] = [stall]
            asking = asyncio.create_task(service.ask())
            async with asyncio.timeout(5.0):
                await began.wait()
                asking.cancel()
                await upstream.peer_left.wait()

            async def cancelled() -> bool:
                async with service.runtime.engine.connect() as connection:
                    found = await connection.exec_driver_sql(
                        "SELECT count(*) FROM outcomes WHERE status = 'cancelled'"
                    )
                    return found.scalar_one() == 2

            await eventually(cancelled)


@pytest.mark.asyncio
async def test_without_a_database_only_a_last_resort_answers_and_all_recovers(
    open_folder: Path,
) -> None:
    server = EmbeddedPostgres(open_folder, settings={"fsync": "off"}).start()
    try:
        async with misbehaving(answer) as paid, misbehaving(answer) as local:
            last = http_model("last", local.base_url, local=True, last_resort=True)
            config = router_config(server.url, http_model("small", paid.base_url), last)
            async with served(config) as service:
                first = await service.ask()
                known = first.headers["x-router-decision-id"]
                await service.ended(known)
                await asyncio.to_thread(server.stop)

                got = await service.ask()
                assert got.status_code == 200
                assert got.json()["model"] == "last"
                assert got.headers["x-router-degraded"] == "store"
                assert "x-router-decision-id" not in got.headers
                calls = len(paid.bodies)
                # Now that it is known, no model is paid for an answer that may not leave.
                streamed = await service.ask(stream=True)
                assert streamed.headers["x-router-degraded"] == "store"
                assert streamed.headers["x-router-model"] == "last"
                assert len(paid.bodies) == calls
                for refused in (
                    await service.ask(model="small"),
                    await service.judge(known, 1.0),
                    await service.client.post("/v1/route", json=ASK),
                    await service.client.get(f"/admin/decisions/{known}"),
                ):
                    assert refused.status_code == 503
                    assert refused.json()["error"]["code"] == "store_unavailable"
                    assert int(refused.headers["retry-after"]) >= 1
                    assert "postgresql" not in refused.text
                assert (await service.client.get("/health/live")).status_code == 200
                ready = await service.client.get("/health/ready")
                assert ready.status_code == 503
                assert ready.json()["missing"] == ["the database does not answer"]

                server.start()

                async def routed() -> httpx.Response | None:
                    again = await service.ask()
                    return again if "x-router-decision-id" in again.headers else None

                again = await eventually(routed)
                assert again.json()["model"] == "small"
                judged = await service.judge(again.headers["x-router-decision-id"], 0.25)
                assert judged.status_code == 200
                version = service.runtime.router.serving.version
                await eventually(lambda: newer(service, version))
    finally:
        server.stop()


async def newer(service: Served, version: int) -> bool:
    return service.runtime.router.serving.version > version


@pytest.mark.asyncio
async def test_what_is_too_long_for_every_model_is_told_as_openai_tells_it(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(n, upstream.base_url, context_window_tokens=500) for n in "ab"]
        async with served(router_config(store_url, *models)) as service:
            got = await service.ask(messages=[{"role": "user", "content": "word " * 2000}])
            assert got.status_code == 400
            assert got.json()["error"]["code"] == "context_length_exceeded"
