"""Budgets of a day and of a session: paced while they last, and then a wall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chain_setup import http_model
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.config import PolicyConfig
from bandit_router.config_steering import LimitsConfig, SessionsConfig, TenantConfig
from simulations.faults.misbehaving import USAGE, answer, misbehaving

TOKENS = USAGE["prompt_tokens"], USAGE["completion_tokens"]
CHEAP_USD = (TOKENS[0] * 1.0 + TOKENS[1] * 2.0) / 1e6
DEAR = {"input_usd_per_million": 100.0, "output_usd_per_million": 200.0}
DEAR_USD = 100.0 * CHEAP_USD
BODY = {**ASK, "max_tokens": TOKENS[1]}


async def ask(service: Served, **headers: str) -> Any:
    got = await service.client.post("/v1/chat/completions", json=BODY, headers=headers)
    if got.status_code == 200:
        await service.ended(got.headers["x-router-decision-id"])
    return got


@pytest.mark.asyncio
async def test_a_days_budget_is_never_passed_and_ends_with_what_it_still_can_pay(
    store_url: str,
) -> None:
    budget_usd = 3.5 * DEAR_USD
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("dear", upstream.base_url, **DEAR),
            http_model("cheap", upstream.base_url),
            tenants={"default": TenantConfig(budget_usd_per_day=budget_usd)},
        )
        async with served(config) as service:
            spent, models = 0.0, []
            for _ in range(5):
                got = await ask(service, **{"x-router-model": "dear"})
                if got.status_code != 200:
                    break
                spent += float(got.headers["x-router-cost-usd"])
                models.append(got.json()["model"])
            assert got.status_code == 402
            assert got.json()["error"]["code"] == "budget_exceeded"
            assert models == ["dear"] * 3

            async def seen() -> bool:
                asked = await ask(service)
                assert asked.status_code == 200
                assert asked.json()["model"] == "cheap"
                nonlocal spent
                spent += float(asked.headers["x-router-cost-usd"])
                found = await service.decision(asked.headers["x-router-decision-id"])
                masked = found["decision"]["masked"]
                return bool(masked == {"dear": "excluded"})

            # Half a dear call is left: what can still be paid for goes on.
            await eventually(seen)
            assert 3.0 * DEAR_USD < spent <= budget_usd


@pytest.mark.asyncio
async def test_a_session_is_paced_and_ends_at_its_own_budget(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("cheap", upstream.base_url),
            sessions=SessionsConfig(budget_usd=2.5 * CHEAP_USD, sticky=False),
        )
        async with served(config) as service:
            codes = [(await ask(service, **{"x-session-id": "a"})).status_code for _ in range(4)]
            # What is booked lies below the budget before the third call, which may pass it.
            assert codes == [200, 200, 200, 402]
            refused = await ask(service, **{"x-session-id": "a"})
            assert "begin a new session" in refused.json()["error"]["message"]
            assert (await ask(service, **{"x-session-id": "b"})).status_code == 200
            assert (await ask(service)).status_code == 200


@pytest.mark.asyncio
async def test_the_price_of_a_dollar_rises_as_a_session_spends(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("dear", upstream.base_url, **DEAR),
            http_model("cheap", upstream.base_url),
            sessions=SessionsConfig(budget_usd=1e9, sticky=False),
            tenants={"default": TenantConfig(budget_usd_per_session=5.5 * DEAR_USD)},
        )
        async with served(config) as service:

            async def price(session_id: str) -> float:
                got = await ask(service, **{"x-session-id": session_id})
                found = await service.decision(got.headers["x-router-decision-id"])
                return float(found["decision"]["price_of_dollar"])

            for _ in range(4):
                named = {"x-session-id": "a", "x-router-model": "dear"}
                assert (await ask(service, **named)).status_code == 200
            assert await price("a") > await price("b")


@pytest.mark.asyncio
async def test_the_routers_own_day_bounds_every_tenant(store_url: str, tmp_path: Path) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("cheap", upstream.base_url),
            policy=PolicyConfig(budget_usd_per_day=1.5 * CHEAP_USD),
            limits=LimitsConfig(over_budget="refuse"),
        )
        async with served(config) as service:
            assert (await ask(service)).status_code == 200
            assert (await ask(service)).status_code == 402
