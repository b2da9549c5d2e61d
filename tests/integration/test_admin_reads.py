"""The operators' doors that only read: lists, reasons, beliefs."""

from __future__ import annotations

from typing import Any

import pytest
from chain_setup import http_model
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.config import FeaturesConfig, RouterConfig, ServerConfig
from bandit_router.store import decision_list
from bandit_router.store.api_keys import Scope
from simulations.faults.misbehaving import answer, misbehaving

HOSTILE = ("'; DROP TABLE decisions; --", "a' OR '1'='1", "%", '"', "\\", "small\x00")


def two_models(url: str, base_url: str, **sections: Any) -> RouterConfig:
    settings = {"features": FeaturesConfig(text="none", metadata=("task",)), **sections}
    models = (http_model("small", base_url), http_model("large", base_url))
    return router_config(url, *models, **settings)


async def got(service: Served, path: str, **query: Any) -> Any:
    answer = await service.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def fill(service: Served, count: int = 9) -> list[str]:
    """Decisions, oldest first; the first of each three judged 0.2, the second 0.9."""
    ids = []
    for turn in range(count):
        label = {"task": ("math", "chat")[turn % 2]}
        ids.append((await service.ask(metadata=label)).headers["x-router-decision-id"])
        if turn % 3 < 2:
            await service.judge(ids[-1], (0.2, 0.9)[turn % 3])
    for made in ids:
        await service.ended(made)
    return ids


@pytest.mark.asyncio
async def test_decisions_are_listed_by_filters_and_in_pages(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(two_models(store_url, upstream.base_url)) as service,
    ):
        ids = await fill(service)
        newest_first = ids[::-1]

        async def listed(**query: Any) -> list[str]:
            found = await got(service, "/admin/decisions", **query)
            return [line["decision_id"] for line in found["decisions"]]

        assert await listed() == newest_first
        pages, before = [], None
        while True:
            query = {"before": before} if before else {}
            page = await got(service, "/admin/decisions", limit=4, **query)
            pages += [line["decision_id"] for line in page["decisions"]]
            before = page["next"]
            if before is None:
                break
        assert pages == newest_first

        assert await listed(reward_low=0.8) == newest_first[1::3]
        assert await listed(reward_high=0.3) == newest_first[2::3]
        assert await listed(has_feedback=False) == newest_first[0::3]
        assert await listed(status="ok") == newest_first
        assert await listed(status="unknown") == []
        assert await listed(mode="override") == []
        assert await listed(tenant="acme") == []
        small, large = [await listed(model=name) for name in ("small", "large")]
        assert sorted(small + large) == sorted(ids)
        line = (await got(service, "/admin/decisions", limit=1))["decisions"][0]
        first = (await service.decision(line["decision_id"]))["decision"]
        assert line["created_at"] == first["created_at"]
        assert await listed(since=line["created_at"]) == newest_first[:1]
        assert await listed(until=line["created_at"]) == newest_first[1:]

        # Few fit, and the looking stops early: the page is short, and says where to go on.
        looked_at, decision_list.LOOKED_AT = decision_list.LOOKED_AT, 2
        try:
            page = await got(service, "/admin/decisions", reward_low=0.8, limit=1)
            assert page["next"] == newest_first[1]
            page = await got(
                service, "/admin/decisions", reward_low=0.8, limit=5, before=newest_first[1]
            )
            assert (page["decisions"], page["next"]) == ([], newest_first[3])
        finally:
            decision_list.LOOKED_AT = looked_at

        reached_back, decision_list.REACHED_BACK = decision_list.REACHED_BACK, 2
        try:
            page = await got(service, "/admin/decisions", tenant="nobody")
            assert (page["decisions"], page["next"]) == ([], newest_first[1])
            page = await got(service, "/admin/decisions", until=line["created_at"], limit=1)
            assert page["decisions"][0]["decision_id"] == newest_first[1]
            # So do calls: page by page until the end is reached, and nothing is passed over.
            page = await got(service, "/admin/attempts", status="timeout")
            assert (page["attempts"], page["next"]) == ([], f"{newest_first[1]}:0")
            calls, before = [], None
            while True:
                query = {"before": before} if before else {}
                page = await got(service, "/admin/attempts", status="ok", limit=3, **query)
                calls += [call["decision_id"] for call in page["attempts"]]
                if (before := page["next"]) is None:
                    break
            assert calls == newest_first
        finally:
            decision_list.REACHED_BACK = reached_back


@pytest.mark.asyncio
async def test_filters_are_values_and_never_part_of_a_query(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(two_models(store_url, upstream.base_url)) as service,
    ):
        ids = await fill(service, 3)
        for text in HOSTILE:
            for field in ("model", "tenant", "session_id", "policy", "answered_by"):
                found = await service.client.get("/admin/decisions", params={field: text})
                assert found.status_code in (200, 422), found.text
                if found.status_code == 200:
                    assert found.json()["decisions"] == []
            for path, field in (
                ("/admin/decisions", "status"),
                ("/admin/decisions", "mode"),
                ("/admin/decisions", "before"),
                ("/admin/decisions", "since"),
                ("/admin/decisions", "limit"),
                ("/admin/attempts", "before"),
                ("/admin/audit", "before"),
                ("/admin/snapshots/diff", "before"),
                ("/admin/stats/summary", "window"),
                ("/admin/calibration", "days"),
                ("/admin/challengers", "before"),
            ):
                found = await service.client.get(path, params={field: text, "after": 1})
                assert found.status_code == 422, (path, field, text)
            for path, field in (
                ("/admin/attempts", "model"),
                ("/admin/snapshots", "policy"),
                ("/admin/segments", "key"),
                ("/admin/stats/summary", "tenant"),
                ("/admin/stats/trend", "tenant"),
                ("/admin/stats/segments", "tenant"),
                ("/admin/stats/advice", "tenant"),
            ):
                found = await service.client.get(path, params={field: text})
                assert found.status_code in (200, 422), (path, found.text)
        page = await got(service, "/admin/decisions")
        assert [line["decision_id"] for line in page["decisions"]] == ids[::-1]


@pytest.mark.asyncio
async def test_a_decision_says_why_in_numbers_that_add_up(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(two_models(store_url, upstream.base_url)) as service,
    ):
        await fill(service, 30)

        async def learned() -> Any:
            found = await got(service, "/admin/policies/thompson")
            return found if found["learner"]["progress"]["rewards"] == 20 else None

        await eventually(learned)
        asked = await service.ask(metadata={"task": "math"})
        found = await service.ended(asked.headers["x-router-decision-id"])
        decision, why = found["decision"], found["why"]
        assert found["pmf_check"]["equal"]
        assert why["sentence"].startswith(f"'{decision['model']}' is expected")
        words = [label for label in found["words"].values() if label["key"] == "task"]
        assert [label["high"] + label["low"] for label in words] == [["math"]]
        assert {c["model"] for c in why["candidates"]} == {"small", "large"}
        for candidate in why["candidates"]:
            name = candidate["model"]
            assert candidate["pmf"] == decision["pmf"][name]
            assert candidate["quality"] == decision["predicted"]["quality"][name]
            shown = candidate["contributions"]
            for part in shown:
                assert part["contribution"] == pytest.approx(
                    part["coefficient"] * part["coordinate"]
                )
            sizes = [abs(part["contribution"]) for part in shown]
            assert sizes == sorted(sizes, reverse=True)
            rest = (
                candidate["quality"]
                - candidate["base"]
                - sum(part["contribution"] for part in shown)
            )
            # What is not shown is smaller than the smallest that is, many times at most.
            assert abs(rest) <= 60 * sizes[-1]

        before = await got(service, "/admin/decisions")
        tried = await service.client.post("/admin/what-if", json={**ASK, "metadata": {"task": "x"}})
        assert tried.status_code == 200
        assert "decision_id" not in tried.json()["decision"]
        assert sum(c["pmf"] for c in tried.json()["why"]["candidates"]) == pytest.approx(1.0)
        assert await got(service, "/admin/decisions") == before


@pytest.mark.asyncio
async def test_beliefs_stand_beside_what_was_observed(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(two_models(store_url, upstream.base_url)) as service,
    ):
        ids = await fill(service, 30)
        found = await got(service, "/admin/calibration")
        assert found["decisions"] == 30
        assert found["overall"]["count"] == 20
        assert sum(m["count"] for m in found["models"]) == 20
        observed = sum(b["observed"] * b["count"] for b in found["overall"]["bins"]) / 20
        assert observed == pytest.approx(0.55)

        found = await got(service, "/admin/segments", key="task")
        assert {s["value"]: s["decisions"] for s in found["segments"]} == {"math": 15, "chat": 15}
        rewards = [m["rewards"] for s in found["segments"] for m in s["models"]]
        assert sum(rewards) == 20
        for model in found["segments"][0]["models"]:
            assert model["quality_low"] < model["quality"] < model["quality_high"]
        assert (await got(service, "/admin/segments", key="nobody"))["segments"] == []

        found = await got(service, "/admin/exploration")
        assert found["enabled"] is True
        assert found["cost"]["decisions"] == 30
        assert 0.0 <= found["cost"]["not_best"] <= 1.0

        async def added_up() -> dict[str, Any] | None:
            found = await got(service, "/admin/budget")
            return found if found["last_day"]["requests"] == 30 else None

        assert (await eventually(added_up))["usd_per_request"] is None

        lines, before = [], None
        while True:
            query = {"before": before} if before else {}
            page = await got(service, "/admin/attempts", limit=7, **query)
            lines += page["attempts"]
            before = page["next"]
            if before is None:
                break
        assert [line["decision_id"] for line in lines] == ids[::-1]
        assert {line["status"] for line in lines} == {"ok"}

        snapshots = (await got(service, "/admin/snapshots"))["snapshots"]
        last, first = snapshots[0]["version"], snapshots[-1]["version"]
        changed = await got(service, "/admin/snapshots/diff", before=first, after=last)
        assert changed["rewards"]["before"] < changed["rewards"]["after"]
        assert [m["model"] for m in changed["models"]] == ["small", "large"]
        same = await got(service, "/admin/snapshots/diff", before=last, after=last)
        assert same["same_coordinates"]
        assert all(m["coefficients"] == [] for m in same["models"])
        missing = await service.client.get(
            "/admin/snapshots/diff", params={"before": 10**6, "after": last}
        )
        assert missing.status_code == 404


@pytest.mark.asyncio
async def test_a_tenants_administrator_sees_that_tenant_and_nothing_shared(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        locked = ServerConfig(require_api_key=True)
        async with served(two_models(store_url, upstream.base_url, server=locked)) as service:
            made: dict[str, dict[str, str]] = {}
            for tenant in ("acme", "globex", "default"):
                _, clear = await service.runtime.keys.create(tenant, tenant, list(Scope))
                made[tenant] = {"authorization": f"Bearer {clear}"}
            ids = {}
            for tenant in ("acme", "globex"):
                asked = await service.client.post(
                    "/v1/chat/completions", json=ASK, headers=made[tenant]
                )
                ids[tenant] = asked.headers["x-router-decision-id"]

            async def seen(by: str, path: str, **query: Any) -> Any:
                return await service.client.get(path, params=query, headers=made[by])

            page = (await seen("acme", "/admin/decisions")).json()
            assert [d["decision_id"] for d in page["decisions"]] == [ids["acme"]]
            everything = (await seen("default", "/admin/decisions")).json()
            assert len(everything["decisions"]) == 2
            only = (await seen("default", "/admin/decisions", tenant="globex")).json()
            assert [d["decision_id"] for d in only["decisions"]] == [ids["globex"]]
            assert (await seen("acme", "/admin/decisions", tenant="globex")).status_code == 403
            assert (await seen("acme", f"/admin/decisions/{ids['globex']}")).status_code == 404
            assert (await seen("acme", f"/admin/decisions/{ids['acme']}")).status_code == 200

            async def attempted() -> Any:
                found = (await seen("acme", "/admin/attempts")).json()["attempts"]
                return found or None

            assert [a["decision_id"] for a in await eventually(attempted)] == [ids["acme"]]
            for path in ("keys", "audit", "policies", "models", "snapshots", "budget"):
                refused = await seen("acme", f"/admin/{path}")
                assert refused.status_code == 403, path
                assert refused.json()["error"]["code"] == "tenant_scope"


@pytest.mark.asyncio
async def test_keys_are_made_and_ended_over_http_and_every_act_is_written_down(
    store_url: str,
) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(two_models(store_url, upstream.base_url)) as service,
    ):
        asked = {"name": "shop", "tenant": "acme", "scopes": ["route"]}
        made = await service.client.post("/admin/keys", json=asked)
        assert made.status_code == 201
        clear = made.json()["key"]
        listed = (await got(service, "/admin/keys"))["keys"]
        assert [key["name"] for key in listed] == ["shop"]
        assert clear not in str(listed)
        key_id = listed[0]["id"]
        assert (await service.client.delete(f"/admin/keys/{key_id}")).status_code == 200
        assert (await service.client.delete(f"/admin/keys/{key_id}")).status_code == 404
        for wrong in ({}, {"name": ""}, {"name": "x", "scopes": ["root"]}, {"name": "x", "y": 1}):
            assert (await service.client.post("/admin/keys", json=wrong)).status_code == 422
        entries = (await got(service, "/admin/audit"))["audit"]
        assert [(e["action"], e["subject"]) for e in entries] == [
            ("keys.revoke.failed", str(key_id)),
            ("keys.revoke", str(key_id)),
            ("keys.revoke", str(key_id)),
            ("keys.create", "shop"),
        ]
        assert {e["actor"] for e in entries} == {"anonymous"}
        assert clear not in str(entries)
        page = await got(service, "/admin/audit", limit=3)
        assert page["next"] == page["audit"][-1]["id"]
