"""Limits hold under load, on several replicas, and after a crash."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from chain_setup import fallback, http_model
from service_process import ASK, Served, eventually, router_config, served
from sqlalchemy import text
from test_service_keys import LOCKED, bearer

from bandit_router.config_steering import LimitsConfig, LimitSet, TenantConfig
from bandit_router.limits import (
    Bound,
    Claim,
    Headroom,
    Usage,
    headroom,
    seconds_left,
    span_start,
)
from bandit_router.store.api_keys import ApiKeys, Principal, Scope, limits_from
from bandit_router.types import RoutingRequest
from service.limit_headers import duration, limit_headers
from simulations.faults.misbehaving import USAGE, answer, misbehaving, refuse

COST_USD = (USAGE["prompt_tokens"] * 1.0 + USAGE["completion_tokens"] * 2.0) / 1e6
REQUESTS = 200
PATIENCE_S = 60.0


async def key_of(service: Served, **limits: Any) -> dict[str, str]:
    keys = ApiKeys(service.runtime.engine, os.urandom)
    _, clear = await keys.create("web", "acme", [Scope.ROUTE], LimitSet(**limits))
    return bearer(clear)


async def booked_usd(service: Served, span: str = "day") -> float:
    query = text("SELECT coalesce(sum(cost_usd), 0) FROM limit_windows WHERE span = :span")
    async with service.runtime.engine.connect() as connection:
        return float(await connection.scalar(query, {"span": span}) or 0.0)


async def open_reservations(service: Served) -> int:
    query = text("SELECT count(*) FROM reservations WHERE settled_at IS NULL")
    async with service.runtime.engine.connect() as connection:
        return int(await connection.scalar(query) or 0)


async def all_settled(service: Served) -> None:
    async def none_open() -> bool:
        return await open_reservations(service) == 0

    await eventually(none_open, PATIENCE_S)


@pytest.mark.asyncio
async def test_two_hundred_parallel_requests_on_two_replicas_pass_a_cap_by_one_reservation(
    store_url: str,
) -> None:
    most_tokens = USAGE["completion_tokens"]
    body = {**ASK, "max_tokens": most_tokens}
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(misbehaving(answer))
        config = router_config(
            store_url,
            http_model("small", upstream.base_url),
            server=LOCKED,
            # Two hundred at once on a busy machine: a late answer is not what is tested.
            fallback=fallback(attempt_timeout_s=PATIENCE_S, deadline_s=PATIENCE_S),
        )
        replicas = [await stack.enter_async_context(served(config)) for _ in range(2)]
        for replica in replicas:
            replica.client.timeout = httpx.Timeout(PATIENCE_S)
        cap_usd = 40 * COST_USD
        headers = await key_of(replicas[0], usd_per_day=cap_usd)
        got = await asyncio.gather(
            *(
                replicas[k % 2].client.post("/v1/chat/completions", json=body, headers=headers)
                for k in range(REQUESTS)
            )
        )
        await all_settled(replicas[0])
        answered = [one for one in got if one.status_code == 200]
        refused = [one for one in got if one.status_code == 402]
        assert len(answered) + len(refused) == REQUESTS
        reservation_usd = max(float(one.headers["x-router-cost-usd"]) for one in answered) * 2
        spent_usd = len(upstream.bodies) * COST_USD
        assert len(answered) == len(upstream.bodies)
        assert spent_usd <= cap_usd + reservation_usd
        assert spent_usd > 0.5 * cap_usd
        assert await booked_usd(replicas[0]) == pytest.approx(spent_usd)
        error = refused[0].json()["error"]
        assert error["code"] == "budget_exceeded"
        assert int(refused[0].headers["retry-after"]) <= 86_400


@pytest.mark.asyncio
async def test_requests_and_tokens_of_key_and_tenant_have_windows(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        tenants = {"acme": TenantConfig(limits=LimitSet(requests_per_month=3))}
        config = router_config(
            store_url, http_model("small", upstream.base_url), server=LOCKED, tenants=tenants
        )
        async with served(config) as service:

            async def ask(headers: dict[str, str]) -> httpx.Response:
                return await service.client.post("/v1/route", json=ASK, headers=headers)

            few = await key_of(service, requests_per_month=1)
            taken = await ask(few)
            assert taken.status_code == 200
            # Of the key's one and the tenant's three a month, the key's is nearer to its end.
            assert taken.headers["x-ratelimit-limit-requests"] == "1"
            assert taken.headers["x-ratelimit-remaining-requests"] == "0"
            assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", taken.headers["x-ratelimit-reset-requests"])
            assert "x-ratelimit-limit-tokens" not in taken.headers
            refused = await ask(few)
            assert refused.status_code == 429
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert "key" in refused.json()["error"]["message"]
            other = await key_of(service, tokens_per_month=1)
            assert (await ask(other)).status_code == 200
            assert "tokens" in (await ask(other)).json()["error"]["message"]
            free = await key_of(service)
            last = await ask(free)
            assert last.status_code == 200
            assert last.headers["x-ratelimit-limit-requests"] == "3"
            assert last.headers["x-ratelimit-remaining-requests"] == "0"
            assert "tenant 'acme'" in (await ask(free)).json()["error"]["message"]


@pytest.mark.asyncio
async def test_failed_calls_give_back_and_unknown_ones_stay_booked(store_url: str) -> None:
    async with misbehaving(refuse(500)) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), server=LOCKED)
        async with served(config) as service:
            headers = await key_of(service, usd_per_day=1.0)
            failed = await service.client.post("/v1/chat/completions", json=ASK, headers=headers)
            assert failed.status_code == 502
            await all_settled(service)
            assert await booked_usd(service) == 0.0
            # A decision that nobody tells the outcome of, as after a crash.
            await service.client.post("/v1/route", json=ASK, headers=headers)
            assert await open_reservations(service) == 1
            assert await booked_usd(service) > 0.0


@pytest.mark.asyncio
async def test_over_budget_a_local_model_answers_where_that_is_configured(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [
            http_model("large", upstream.base_url),
            http_model("home", upstream.base_url, local=True, output_usd_per_million=0.0),
        ]
        limits = LimitsConfig(over_budget="local")
        config = router_config(store_url, *models, server=LOCKED, limits=limits)
        async with served(config) as service:
            headers = await key_of(service, usd_per_day=0.0)
            got = await service.client.post("/v1/chat/completions", json=ASK, headers=headers)
            assert got.status_code == 200
            assert got.json()["model"] == "home"
            assert got.headers["x-router-degraded"] == "budget"


def test_windows_are_those_of_the_calendar() -> None:
    moment = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
    assert span_start("month", moment) == datetime(2026, 12, 1, tzinfo=UTC)
    assert {span: seconds_left(span, moment) for span in ("minute", "hour", "day", "month")} == {
        "minute": 30.0,
        "hour": 30.0,
        "day": 30.0,
        "month": 30.0,
    }
    assert limits_from(["usd_per_day=5"]).usd_per_day == 5.0


def test_what_is_left_is_told_of_the_limit_nearest_to_its_end() -> None:
    now = datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC)
    bounds = (
        Bound("key:1", "minute", "requests", 10),
        Bound("tenant:a", "day", "requests", 100),
        Bound("key:1", "minute", "tokens", 1_000),
        Bound("key:1", "day", "usd", 5.0),
    )
    booked_in = (("key:1", "minute"), ("tenant:a", "day"), ("key:1", "day"))
    claim = Claim(UUID(int=1), now, bounds, booked_in, 10, 0.1)
    per_minute, per_day, dollars = claim.windows
    usage = {per_minute: Usage(4, 900, 0.0), per_day: Usage(95), dollars: Usage(9, 9, 9.0)}
    left = headroom(claim, usage)
    assert left == (Headroom("requests", 100, 5.0, 30.0), Headroom("tokens", 1_000, 100.0, 30.0))
    assert limit_headers(left) == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "30s",
    }
    assert [duration(s) for s in (0.0, 0.2, 360.0, 7_325.0)] == ["0s", "1s", "6m0s", "2h2m5s"]


@pytest.mark.asyncio
async def test_what_was_reserved_for_a_caller_who_left_meanwhile_is_given_back(
    store_url: str,
) -> None:
    limits = LimitsConfig(tenant=LimitSet(usd_per_day=1.0))
    config = router_config(store_url, http_model("small", "http://127.0.0.1:9/v1"), limits=limits)
    async with served(config) as service:
        runtime = service.runtime
        caller = Principal(0, "nobody", "default", frozenset(Scope))
        decision = await runtime.decide(RoutingRequest(messages=ASK["messages"]))
        reserving = asyncio.create_task(runtime.admission.reserve(caller, decision, 100))
        # Far enough to be in the writer's queue, whose rows are stored whoever leaves.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reserving.cancel()
        await asyncio.wait([reserving])
        assert reserving.cancelled()
        await runtime.admission.settled(5.0)
        query = text("SELECT count(*) FROM reservations WHERE settled_at IS NOT NULL")
        async with runtime.engine.connect() as connection:
            assert await connection.scalar(query) == 1
        assert await open_reservations(service) == 0
        assert await booked_usd(service) == 0.0
