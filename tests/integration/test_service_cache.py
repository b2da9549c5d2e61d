"""Answers kept for the same request: who gets them, for how long, and what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from chain_setup import fallback, http_model
from service_process import ASK, Served, router_config, served
from sqlalchemy import text
from test_service_keys import LOCKED, bearer

from bandit_router.config_steering import CacheConfig
from bandit_router.store.api_keys import ApiKeys, Scope
from simulations.faults.misbehaving import (
    ANSWER,
    answer,
    failing_stream,
    hang_up,
    misbehaving,
    refuse,
    refused_url,
)

pytestmark = pytest.mark.asyncio
# A failure that only a busy machine made would not be kept.
PATIENT = fallback(attempt_timeout_s=8.0, first_token_timeout_s=8.0)
WISHED = {"router": {"cache": True}}


@asynccontextmanager
async def cached(
    url: str, *behaviours: Any, cache: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[tuple[Served, Any]]:
    """One model behind a service with a cache, and its upstream."""
    async with misbehaving(*(behaviours or (answer,))) as upstream:
        settings = CacheConfig(**{"enabled": True, **(cache or {})})
        model = http_model("small", upstream.base_url)
        config = router_config(url, model, cache=settings, fallback=PATIENT, **sections)
        async with served(config) as service:
            yield service, upstream


async def decisions(service: Served) -> int:
    async with service.runtime.engine.connect() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM decisions")) or 0)


async def test_a_hit_is_the_same_answer_without_a_call_a_decision_or_a_cost(
    store_url: str,
) -> None:
    async with cached(store_url) as (service, upstream):
        first = await service.ask(**WISHED)
        again = await service.ask(**WISHED)
        assert first.headers["x-router-cache"] == "miss"
        assert again.headers["x-router-cache"] == "hit"
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["x-router-model"] == "small"
        assert again.headers["x-router-attempts"] == "0"
        assert float(again.headers["x-router-cost-usd"]) == 0.0
        assert again.headers["age"] == "0"
        assert len(upstream.bodies) == 1
        assert await decisions(service) == 1
        # Judged by whoever saw it, the answer still counts once: for the decision that made it.
        decision_id = first.headers["x-router-decision-id"]
        assert again.headers["x-router-decision-id"] == decision_id
        for value in (1.0, 0.0):
            assert (await service.judge(decision_id, value)).status_code == 200
        async with service.runtime.engine.connect() as connection:
            query = text("SELECT count(reward) - count(previous_reward) FROM rewards")
            assert await connection.scalar(query) == 1


async def test_a_stream_is_replayed_event_by_event_to_the_official_client(store_url: str) -> None:
    async with cached(store_url) as (service, upstream):
        body = {**ASK, **WISHED, "stream": True}
        first = await service.client.post("/v1/chat/completions", json=body)
        assert first.text.endswith("data: [DONE]\n\n")
        again = await service.client.post("/v1/chat/completions", json=body)
        assert (first.headers["x-router-cache"], again.headers["x-router-cache"]) == ("miss", "hit")
        assert again.text == first.text
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused") as client:
            stream = await client.chat.completions.create(**ASK, stream=True, extra_body=WISHED)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(words) == ANSWER
        assert len(words) > 2
        assert len(upstream.bodies) == 1
        whole = await service.ask(**WISHED)
        assert whole.headers["x-router-cache"] == "miss"


async def test_whatever_shapes_the_answer_parts_the_requests(store_url: str) -> None:
    async with cached(store_url) as (service, upstream):
        others: list[tuple[dict[str, Any], dict[str, str]]] = [
            ({}, {}),
            ({"temperature": 0.1}, {}),
            ({"model": "small"}, {}),
            ({"metadata": {"task": "math"}}, {}),
            ({"an_unknown_field": 1}, {}),
            ({}, {"x-router-explore": "disabled"}),
            ({"messages": [{"role": "user", "content": "Why is the sky blue? "}]}, {}),
        ]
        for known in ("miss", "hit"):
            for changes, headers in others:
                got = await service.client.post(
                    "/v1/chat/completions",
                    json={**ASK, **changes},
                    headers={"x-router-cache": "enabled", **headers},
                )
                assert got.headers["x-router-cache"] == known, (changes, headers)
        assert len(upstream.bodies) == len(others)
        # Neither the order of the fields nor who the conversation is with makes another request.
        turned = dict(reversed([*ASK.items(), *WISHED.items()]))
        got = await service.client.post(
            "/v1/chat/completions", json=turned, headers={"x-session-id": "s"}
        )
        assert got.headers["x-router-cache"] == "hit"


async def test_one_tenant_never_gets_what_another_was_answered(store_url: str) -> None:
    async with cached(store_url, server=LOCKED) as (service, _):
        callers = []
        for index, (name, tenant) in enumerate((("a", "acme"), ("b", "acme"), ("c", "other"))):
            keys = ApiKeys(service.runtime.engine, lambda n, k=index + 1: bytes([k]) * n)
            _, clear = await keys.create(name, tenant, [Scope.ROUTE])
            callers.append(bearer(clear))
        found = []
        for headers in callers:
            got = await service.client.post(
                "/v1/chat/completions", json={**ASK, **WISHED}, headers=headers
            )
            found.append(got.headers["x-router-cache"])
        assert found == ["miss", "hit", "miss"]
        refused = await service.client.post("/v1/chat/completions", json={**ASK, **WISHED})
        assert refused.status_code == 401


async def test_the_request_the_file_and_the_kind_of_request_decide_whether_it_is_used(
    store_url: str,
) -> None:
    async with cached(store_url) as (service, upstream):
        for _ in range(2):
            assert "x-router-cache" not in (await service.ask()).headers
            explained = await service.ask(router={"cache": True, "metadata": True})
            assert explained.headers["x-router-cache"] == "off"
            assert explained.json()["router"]["decision_id"]
            stored = await service.ask(**WISHED, store=True)
            assert stored.headers["x-router-cache"] == "off"
        assert len(upstream.bodies) == 6
    async with cached(store_url, cache={"default": True}) as (service, upstream):
        found = [(await service.ask()).headers["x-router-cache"] for _ in range(2)]
        assert found == ["miss", "hit"]
        assert "x-router-cache" not in (await service.ask(router={"cache": False})).headers
    async with cached(store_url, cache={"enabled": False, "default": True}) as (service, _):
        for _ in range(2):
            assert (await service.ask(**WISHED)).headers["x-router-cache"] == "off"
            assert "x-router-cache" not in (await service.ask()).headers


async def test_answers_grow_old_and_the_oldest_make_room(store_url: str) -> None:
    async def asked(service: Served, *seeds: int) -> list[str]:
        got = [await service.ask(**WISHED, seed=seed) for seed in seeds]
        return [one.headers["x-router-cache"] for one in got]

    async with cached(store_url, cache={"ttl_s": 0.3}) as (service, _):
        assert await asked(service, 1, 1) == ["miss", "hit"]
        await asyncio.sleep(0.35)
        assert await asked(service, 1) == ["miss"]
    async with cached(store_url, cache={"max_answers": 2}) as (service, _):
        assert await asked(service, 1, 2, 1, 3) == ["miss", "miss", "hit", "miss"]
        assert await asked(service, 1, 2) == ["hit", "miss"]
    for bound in ({"max_bytes": 100}, {"max_answer_bytes": 100}):
        async with cached(store_url, cache=bound) as (service, _):
            assert await asked(service, 1, 1) == ["miss", "miss"]
            streamed = [await service.ask(**WISHED, stream=True) for _ in range(2)]
            assert {one.headers["x-router-cache"] for one in streamed} == {"miss"}


async def test_failures_and_broken_streams_are_not_kept(store_url: str) -> None:
    behaviours = (refuse(400), answer)
    async with cached(store_url, *behaviours) as (service, _):
        assert (await service.ask(**WISHED)).status_code == 400
        got = await service.ask(**WISHED)
        assert (got.status_code, got.headers["x-router-cache"]) == (200, "miss")
    async with cached(store_url, failing_stream(hang_up), answer) as (service, _):
        broken = await service.ask(**WISHED, stream=True)
        assert "error" in broken.text
        assert not broken.text.endswith("[DONE]\n\n")
        got = await service.ask(**WISHED, stream=True)
        assert got.headers["x-router-cache"] == "miss"
        assert got.text.endswith("[DONE]\n\n")
    async with misbehaving(answer) as upstream:
        models = (
            http_model("small", refused_url()),
            http_model("last", upstream.base_url, local=True, last_resort=True),
        )
        config = router_config(store_url, *models, cache=CacheConfig(enabled=True))
        async with served(config) as service:
            for _ in range(2):
                got = await service.ask(**WISHED)
                assert got.headers["x-router-model"] == "last"
                assert got.headers["x-router-cache"] == "miss"


async def test_another_configuration_begins_with_an_empty_cache(store_url: str) -> None:
    async with cached(store_url) as (service, upstream):
        await service.ask(**WISHED)
        runtime = service.runtime
        await runtime._take_up(runtime.config, runtime.live.overlay)
        assert (await service.ask(**WISHED)).headers["x-router-cache"] == "miss"
        assert (await service.ask(**WISHED)).headers["x-router-cache"] == "hit"
        assert len(upstream.bodies) == 2
