"""GET /metrics on a service that has answered, failed over and been judged."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from chain_setup import http_model
from prometheus_client.parser import text_string_to_metric_families
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.config import AlarmKind, ServerConfig
from bandit_router.store.api_keys import ApiKeys, Scope
from simulations.faults.misbehaving import Exchange, answer, misbehaving

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"
PREFIX = "bandit_router_"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def broken(exchange: Exchange) -> None:
    await exchange.head(500, {"content-length": "0"})


async def scrape(service: Served) -> Samples:
    got = await service.client.get("/metrics")
    assert got.status_code == 200, got.text
    assert got.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(got.text)
        for sample in family.samples
    }


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.mark.asyncio
async def test_metrics_count_what_happened(store_url: str) -> None:
    async with misbehaving(answer) as upstream, misbehaving(broken) as failing:
        models = [http_model("good", upstream.base_url), http_model("bad", failing.base_url)]
        async with served(router_config(store_url, *models)) as service:
            before = await scrape(service)
            assert one(before, "overhead_seconds_count") == 0
            ids = [
                (await service.ask(model="good")).headers["x-router-decision-id"] for _ in range(3)
            ]
            # Of two models that nothing is known of, the failing one is soon drawn.
            autos = 0
            while autos < 30:
                autos += 1
                chosen = await service.ask()
                assert chosen.status_code == 200
                ids.append(chosen.headers["x-router-decision-id"])
                if chosen.headers["x-router-attempts"] != "1":
                    break
            assert (await service.ask(model="bad")).status_code >= 500
            assert (await service.judge(ids[0], 1.0)).status_code == 200
            assert (await service.judge(ids[0], 1.0)).status_code == 200
            await service.client.get("/a/path/that/somebody/made/up")
            await service.ended(ids[-1])

            async def learned() -> Samples | None:
                found = await scrape(service)
                return found if one(found, "snapshot_version") > 0 else None

            found = await eventually(learned)
            door = "/v1/chat/completions"
            assert one(found, "requests_total", door=door, status="2xx") == 3 + autos
            assert one(found, "requests_total", door=door, status="5xx") == 1
            assert one(found, "requests_total", door="other", status="4xx") == 1
            assert one(found, "overhead_seconds_count") == 3 + autos
            assert 0 < one(found, "overhead_seconds_sum") < 5
            assert one(found, "decisions_total", model="good", mode="override") == 3
            assert one(found, "decisions_total", model="bad", mode="override") == 1
            assert one(found, "pmf_entropy_nats_count") == autos
            assert one(found, "pmf_entropy_nats_sum") > 0
            assert one(found, "attempts_total", model="bad", status="server_error") >= 1
            assert one(found, "fallbacks_total", model="bad") == 1
            assert one(found, "upstream_latency_seconds_count", model="good") == 3 + autos
            assert one(found, "tokens_total", model="good", direction="in") == (3 + autos) * 11
            assert one(found, "tokens_total", model="good", direction="out") == (3 + autos) * 7
            assert one(found, "cost_usd_total", model="good") == pytest.approx((3 + autos) * 25e-6)
            assert one(found, "feedback_total", state="recorded") == 1
            assert one(found, "feedback_total", state="duplicate") == 1
            assert one(found, "feedback_lag_seconds_count") == 1
            assert one(found, "learner_leads") == 1
            assert 0 <= one(found, "learner_lag_seconds") < 60
            assert 0 <= one(found, "snapshot_age_seconds") < 60
            assert one(found, "queue_depth", queue="decisions") == 0
            assert one(found, "breaker_state", model="good") == 0
            assert all(one(found, "alarms", kind=kind.value) == 0 for kind in AlarmKind)
            asked = await service.client.post("/v1/route", json={**ASK, "model": "good"})
            told = {
                "decision_id": asked.json()["decision_id"],
                "model": "good",
                "status": "ok",
                "latency_s": 0.5,
                "input_tokens": 1000,
                "output_tokens": 1,
            }
            for _ in range(2):
                got = await service.client.post("/v1/outcomes", json=told)
                assert got.status_code == 200, got.text
            later = await scrape(service)
            tokens = one(later, "tokens_total", model="good", direction="in")
            assert tokens == (3 + autos) * 11 + 1000
            service.runtime.breakers.trip("bad", "by hand", 60.0)
            tripped = await scrape(service)
            assert one(tripped, "breaker_state", model="bad") == 2
            assert one(tripped, "alarms", kind="breaker") == 1


@pytest.mark.asyncio
async def test_metrics_are_for_administrators_of_the_whole_router(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(
            store_url,
            http_model("good", upstream.base_url),
            server=ServerConfig(require_api_key=True),
        )
        async with served(config) as service:
            keys = ApiKeys(service.runtime.engine, os.urandom)
            for scope, tenant, status in (
                (Scope.ROUTE, "default", 403),
                (Scope.ADMIN, "somebody", 403),
                (Scope.ADMIN, "default", 200),
            ):
                _, clear = await keys.create(f"{scope} {tenant}", tenant, [scope])
                headers = {"authorization": f"Bearer {clear}"}
                got = await service.client.get("/metrics", headers=headers)
                assert got.status_code == status, got.text
            assert (await service.client.get("/metrics")).status_code == 401


@pytest.mark.asyncio
async def test_every_expression_of_the_grafana_dashboard_names_an_exposed_metric(
    store_url: str,
) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("good", upstream.base_url))) as service,
    ):
        text = (await service.client.get("/metrics")).text
    exposed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            exposed |= {name + end for end in ends}
    expressions = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(expressions) >= 15
    for expression in expressions:
        names = set(re.findall(rf"{PREFIX}\w+", expression))
        assert names, expression
        assert names <= exposed, names - exposed
