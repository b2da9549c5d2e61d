"""The doors to sums, on a service that has answered and been judged."""

from __future__ import annotations

import os
from typing import Any

import pytest
from chain_setup import http_model
from service_process import Served, eventually, router_config, served

from bandit_router.config import ServerConfig
from bandit_router.store.api_keys import ApiKeys, Scope
from simulations.faults.misbehaving import answer, misbehaving

DOORS = ("summary", "trend", "segments", "advice", "policy")


async def stats(service: Served, door: str, **query: str) -> dict[str, Any]:
    got = await service.client.get(f"/admin/stats/{door}", params=query)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


@pytest.mark.asyncio
async def test_sums_follow_requests_and_feedback(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        async with served(router_config(store_url, *models)) as service:
            empty = await stats(service, "summary")
            assert empty["total"]["decisions"] == 0
            assert empty["savings"] is None
            assert (await stats(service, "advice"))["advice"][0]["kind"] == "no_traffic"
            ids = []
            for number in range(12):
                got = await service.ask(metadata={"task": "math" if number % 2 else "<b>law</b>"})
                ids.append(got.headers["x-router-decision-id"])
            for number, decision_id in enumerate(ids[:8]):
                await service.judge(decision_id, 0.25 if number < 2 else 1.0)
            await service.judge(ids[0], None)
            await service.ask(model="large")

            async def all_counted() -> dict[str, Any] | None:
                found = await stats(service, "summary", window="15m")
                whole = found["total"]
                done = whole["answers"] == 13 and whole["rewards"] == 7
                return found if done else None

            found = await eventually(all_counted)
            assert found["total"]["decisions"] == 13
            assert found["total"]["quality"] == pytest.approx((0.25 + 6.0) / 7)
            assert found["total"]["low_share"] == pytest.approx(1 / 7)
            assert found["modes"] == {"policy": 12, "override": 1}
            by_mode = {entry["mode"]: entry for entry in found["by_mode"]}
            assert by_mode["policy"]["rewards"] == 7
            assert by_mode["override"]["quality"] is None
            by_name = {model["model"]: model for model in found["models"]}
            assert sum(m["share"] for m in by_name.values()) == pytest.approx(1.0)
            assert sum(sum(m["reward_histogram"]) for m in by_name.values()) == 7
            assert found["savings"]["requests"] == 12
            assert {p["model"] for p in found["frontier"]["fixed"]} == {"small", "large"}
            words = (await stats(service, "policy"))["words"].values()
            known = {label for word in words for label in (*word["high"], *word["low"])}
            assert known == {"math", "<b>law</b>"}
            trend = await stats(service, "trend", window="15m")
            assert sum(point["decisions"] for point in trend["points"]) == 13
            kinds = await stats(service, "segments", window="1h")
            counts = {s["segment"]: s["decisions"] for s in kinds["segments"]}
            assert counts["task=math"] == counts["task=<b>law</b>"] == 6
            assert counts["length=under 100 tokens"] == 13
            told = {a["kind"] for a in (await stats(service, "advice"))["advice"]}
            assert "sparse_feedback" in told
            other = await stats(service, "summary", window="15m", tenant="nobody")
            assert other["total"]["decisions"] == 0


@pytest.mark.asyncio
async def test_the_doors_ask_for_the_scope_and_keep_tenants_apart(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("small", upstream.base_url),
            server=ServerConfig(require_api_key=True),
        )
        async with served(config) as service:
            keys = ApiKeys(service.runtime.engine, os.urandom)
            both = [Scope.ROUTE, Scope.ADMIN]
            keyring = {
                name: {"authorization": f"Bearer {(await keys.create(name, tenant, scopes))[1]}"}
                for name, tenant, scopes in (
                    ("routes", "default", [Scope.ROUTE]),
                    ("acme", "acme", both),
                    ("whole", "default", both),
                )
            }
            for door in DOORS:
                path = f"/admin/stats/{door}"
                assert (await service.client.get(path)).status_code == 401
                refused = await service.client.get(path, headers=keyring["routes"])
                assert refused.status_code == 403
                whole = await service.client.get(path, headers=keyring["whole"])
                assert whole.status_code == 200
            service.client.headers.update(keyring["whole"])
            await service.ask()
            service.client.headers.update(keyring["acme"])
            await service.ask()

            async def counted() -> Any:
                # What he asks for does not matter: a tenant's administrator sees his own.
                path = "/admin/stats/summary?window=15m&tenant=default"
                return (await service.client.get(path)).json()["total"]["decisions"]

            assert await eventually(counted) == 1
            policy = await service.client.get("/admin/stats/policy")
            assert policy.json()["error"]["code"] == "tenant_scope"
            bad = await service.client.get("/admin/stats/summary?window=1y'--")
            assert bad.status_code == 422
