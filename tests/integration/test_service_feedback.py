"""Deciding alone, telling outcomes and posting feedback; and that the router learns of it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from chain_setup import http_model
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.config import PolicyConfig
from simulations.faults.misbehaving import answer, misbehaving


@pytest.mark.asyncio
async def test_a_decision_alone_shows_all_that_went_into_it(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        async with served(router_config(store_url, *models)) as service:
            got = await service.client.post("/v1/route", json=ASK)
            assert got.status_code == 200
            told = got.json()
            assert upstream.bodies == []
            assert told["propensity"] == told["pmf"][told["model"]]
            assert sum(told["pmf"].values()) == pytest.approx(1.0, abs=1e-12)
            assert {told["model"], *told["fallbacks"]} == {"small", "large"}
            assert told["eligible"] == ["small", "large"]
            for what in ("quality", "quality_sd", "cost_usd", "latency_s"):
                assert set(told["predicted"][what]) == {"small", "large"}
            assert got.headers["x-router-decision-id"] == told["decision_id"]
            found = await service.decision(told["decision_id"])
            assert found["outcome"] is None
            assert found["pmf_check"]["equal"] is True


@pytest.mark.asyncio
async def test_an_outcome_is_taken_once_and_priced_from_the_list(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        async with served(router_config(store_url, *models)) as service:
            told = (await service.client.post("/v1/route", json=ASK)).json()
            outcome = {
                "decision_id": told["decision_id"],
                "model": "large",
                "latency_s": 1.5,
                "input_tokens": 100,
                "output_tokens": 10,
            }
            for _ in range(2):
                got = await service.client.post("/v1/outcomes", json=outcome)
                assert got.status_code == 200, got.text
                assert got.json()["cost_usd"] == pytest.approx((100 * 1.0 + 10 * 2.0) / 1e6)
            other = await service.client.post("/v1/outcomes", json={**outcome, "latency_s": 2.0})
            assert other.status_code == 409
            found = await service.decision(told["decision_id"])
            assert found["outcome"]["answered_by"] == "large"
            assert found["outcome"]["latency_s"] == 1.5
            assert len(found["attempts"]) == 1

            told = (await service.client.post("/v1/route", json=ASK)).json()
            failed = {"decision_id": told["decision_id"], "model": "small", "status": "failed"}
            got = await service.client.post("/v1/outcomes", json={**failed, "latency_s": 3})
            assert got.json()["answered_by"] is None
            found = await service.decision(told["decision_id"])
            assert found["attempts"][0]["status"] == "server_error"


@pytest.mark.asyncio
async def test_feedback_is_recorded_revised_repeated_and_retracted(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        decision_id = (await service.ask()).headers["x-router-decision-id"]
        steps = [(0.5, "recorded"), (0.8, "revised"), (0.8, "duplicate"), (None, "retracted")]
        for value, state in steps:
            got = await service.judge(decision_id, value, comment="so so", tags={"by": "me"})
            assert got.status_code == 200
            told = got.json()
            assert told["state"] == state
            assert told["reward"] == value
            assert told["decision_id"] == decision_id
            assert isinstance(told["feedback_id"], int)
        found = await service.ended(decision_id)
        assert [entry["feedback"]["value"] for entry in found["feedback"]] == [
            value for value, _ in steps
        ]
        assert found["feedback"][0]["feedback"]["source"] == "anonymous"
        assert found["reward"] is None


@pytest.mark.asyncio
async def test_an_idempotency_key_makes_repeats_harmless_and_misuse_a_conflict(
    store_url: str,
) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        decision_id = (await service.ask()).headers["x-router-decision-id"]
        body = {"decision_id": decision_id, "metric": "quality", "value": 0.5}
        key = {"idempotency-key": "once"}
        posts = [service.client.post("/v1/feedback", json=body, headers=key) for _ in range(8)]
        answers = await asyncio.gather(*posts)
        assert {got.status_code for got in answers} == {200}
        assert len({got.json()["feedback_id"] for got in answers}) == 1
        misused = await service.client.post(
            "/v1/feedback", json={**body, "value": 0.6}, headers=key
        )
        assert misused.status_code == 409
        assert misused.json()["error"]["code"] == "idempotency_conflict"
        assert len((await service.decision(decision_id))["feedback"]) == 1


@pytest.mark.asyncio
async def test_feedback_straight_after_the_answer_counts_and_moves_the_next_decision(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("bad", "good")]
        async with served(router_config(store_url, *models)) as service:
            before = (await service.client.post("/v1/route", json=ASK)).json()

            async def ask_and_judge() -> None:
                got = await service.ask()
                value = 0.9 if got.json()["model"] == "good" else 0.1
                judged = await service.judge(got.headers["x-router-decision-id"], value)
                assert judged.status_code == 200, judged.text

            for _ in range(15):
                await asyncio.gather(*(ask_and_judge() for _ in range(4)))

            async def learned() -> bool:
                return service.runtime.learner.progress.rewards == 60

            await eventually(learned)
            after = (await service.client.post("/v1/route", json=ASK)).json()
            assert after["snapshot_version"] > before["snapshot_version"]
            assert after["pmf"]["good"] > 0.9 > before["pmf"]["good"]
            assert after["predicted"]["quality"]["good"] == pytest.approx(0.9, abs=0.1)
            check = (await service.decision(after["decision_id"]))["pmf_check"]
            assert check["equal"] is True
            await assert_operators_see_it(service)


async def assert_operators_see_it(service: Served) -> None:
    client = service.client
    listed = (await client.get("/admin/policies")).json()["policies"]
    assert [entry["name"] for entry in listed if entry["serving"]] == ["thompson"]
    told = (await client.get("/admin/policies/thompson")).json()
    good = next(model for model in told["models"] if model["model"] == "good")
    assert good["quality_low"] < 0.9 < good["quality_high"]
    assert good["pulls"] > 0
    assert good["effective_sample_size"] > 0.0
    names = {coefficient["feature"] for coefficient in good["coefficients"]}
    assert "bias" in names
    assert told["learner"]["leads"] is True
    assert told["learner"]["error"] is None
    assert told["budget"]["paid"] >= 60
    assert sum(told["rewards"].values()) == 60
    snapshots = (await client.get("/admin/snapshots?limit=3")).json()["snapshots"]
    assert len(snapshots) == 3
    assert snapshots[0]["version"] == told["snapshot_version"]
    assert snapshots[0]["version"] > snapshots[1]["version"]


@pytest.mark.asyncio
async def test_a_policy_that_no_longer_serves_can_still_be_looked_at(store_url: str) -> None:
    model = http_model("small", "http://127.0.0.1:1/v1")
    for name in ("linucb", "thompson"):
        config = router_config(store_url, model, policy=PolicyConfig(name=name))
        async with served(config) as service:
            await eventually(partial(wrote_a_snapshot, service))
    async with served(config) as service:
        client = service.client
        listed = (await client.get("/admin/policies")).json()["policies"]
        assert {entry["name"]: entry["serving"] for entry in listed} == {
            "thompson": True,
            "linucb": False,
        }
        told = (await client.get("/admin/policies/linucb")).json()
        assert told["serving"] is False
        assert told["models"][0]["model"] == "small"
        assert "learner" not in told


async def wrote_a_snapshot(service: Served) -> bool:
    return service.runtime.router.serving.version > 0


@pytest.mark.asyncio
async def test_an_operator_sees_the_sources_and_may_set_one_aside(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        decision_id = (await service.ask()).headers["x-router-decision-id"]
        await service.judge(decision_id, 0.8)
        door = "/admin/feedback/sources"
        (source,) = (await service.client.get(door)).json()["sources"]
        assert (source["source"], source["signals"]) == ("anonymous", 1.0)
        assert (source["quarantined"], source["reason"]) == (False, None)
        (model,) = source["models"]
        # A cold router expects 0.5.
        assert model == {
            "metric": "quality",
            "model": "small",
            "signals": 1.0,
            "beside_predicted": pytest.approx(0.3),
        }
        got = await service.client.put(
            f"{door}/anonymous", json={"quarantined": True, "reason": "a load test"}
        )
        assert got.status_code == 200, got.text
        assert got.json()["quarantined"] is True
        assert got.json()["by_operator"] is True
        assert (await service.judge(decision_id, 0.9)).json()["reward"] is None
        refused = await service.client.put(f"{door}/anonymous", json={"quarantined": True})
        assert refused.status_code == 422
