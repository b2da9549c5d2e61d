"""What callers and operators ask of the choice, over a real socket and a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from chain_setup import http_model
from service_process import ASK, Served, eventually, router_config, served

from bandit_router.config import ModelConfig
from bandit_router.config_steering import (
    RuleConfig,
    RuleThen,
    RuleWhen,
    SessionsConfig,
    TierConfig,
    WorkflowConfig,
)
from bandit_router.types import Tier
from simulations.faults.misbehaving import ANSWER, answer, misbehaving, refused_url

DRAWS = 12


@asynccontextmanager
async def three_models(url: str, **sections: Any) -> AsyncIterator[tuple[Served, Any]]:
    async with misbehaving(answer) as upstream:
        models = [
            http_model(tier.value, upstream.base_url, tier=tier, output_usd_per_million=price)
            for tier, price in zip(Tier, (0.5, 2.0, 8.0), strict=True)
        ]
        async with served(router_config(url, *models, **sections)) as service:
            yield service, upstream


async def decided(service: Served, headers: dict[str, str] | None = None, **body: Any) -> Any:
    got = await service.client.post("/v1/route", json={**ASK, **body}, headers=headers or {})
    assert got.status_code == 200, got.text
    return got.json()


@pytest.mark.asyncio
async def test_headers_and_the_router_object_say_the_same_and_the_body_counts(
    store_url: str,
) -> None:
    async with three_models(store_url) as (service, upstream):
        by_header = await decided(service, {"x-router-exclude": "small, medium"})
        assert by_header["masked"] == {"small": "excluded", "medium": "excluded"}
        by_body = await decided(service, router={"exclude": ["small", "medium"]})
        assert by_body["masked"] == by_header["masked"]
        both = await decided(
            service, {"x-router-minimum-tier": "large"}, router={"minimum_tier": "medium"}
        )
        assert both["masked"] == {"small": "below_tier"}
        listed = await decided(service, {"x-router-models": "small,large"})
        assert listed["masked"] == {"medium": "not_a_candidate"}
        named = await decided(service, {"x-router-model": "medium"})
        assert (named["model"], named["mode"], named["propensity"]) == ("medium", "override", 1.0)
        got = await service.ask(router={"exclude": ["small"]}, models=["small", "large"])
        assert got.json()["model"] == "large"
        assert upstream.bodies[-1] == {"messages": ASK["messages"], "model": "large"}


@pytest.mark.asyncio
async def test_wrong_wishes_are_told_by_name_and_never_ignored(store_url: str) -> None:
    async with three_models(store_url) as (service, _):
        for headers, router, param, word in (
            ({"x-router-max-cost-usd": "cheap"}, None, "x-router-max-cost-usd", "number"),
            ({"x-router-max-cost": "1"}, None, None, "did you mean x-router-max-cost-usd"),
            ({"x-router-minimum-tier": "huge"}, None, "x-router-minimum-tier", "'large'"),
            ({}, {"quality_floor": 1.5}, "router.quality_floor", "less than or equal to 1"),
            ({}, {"max_cost_usd": True}, "router.max_cost_usd", "send a number"),
            ({}, {"max_latency_s": 0}, "router.max_latency_s", "greater than 0"),
            ({}, {"exlude": ["small"]}, "router.exlude", "did you mean exclude"),
            ({}, [], "router", "object"),
            ({}, {"user_tier": "gold"}, "user_tier", "no user tier 'gold'"),
            ({"x-router-workflow": "w"}, None, "workflow", "no workflow 'w'"),
        ):
            body = {**ASK, "router": router}
            got = await service.client.post("/v1/chat/completions", json=body, headers=headers)
            error = got.json()["error"]
            assert got.status_code == 422, got.text
            assert error["param"] == param
            assert word in error["message"]
        passed = await decided(service, {"x-router-id": "of another proxy"})
        assert passed["mode"] == "policy"


@pytest.mark.asyncio
async def test_with_exploration_off_the_best_is_taken_and_the_log_can_tell(store_url: str) -> None:
    async with three_models(store_url) as (service, _):
        found = [await decided(service, router={"explore": False}) for _ in range(DRAWS)]
        assert {one["policy"] for one in found} == {"greedy"}
        assert {one["propensity"] for one in found} == {1.0}
        assert len({one["model"] for one in found}) == 1
        stored = await service.decision(found[0]["decision_id"])
        assert stored["pmf_check"]["equal"] is True


@pytest.mark.asyncio
async def test_metadata_tells_why_in_a_whole_answer_and_in_a_chunk_without_choices(
    store_url: str,
) -> None:
    async with three_models(store_url) as (service, _):
        headers = {"x-router-metadata": "enabled"}
        plain = await service.ask()
        assert "router" not in plain.json()
        got = await service.client.post("/v1/chat/completions", json=ASK, headers=headers)
        why = got.json()["router"]
        assert why["decision_id"] == got.headers["x-router-decision-id"]
        assert set(why["predicted"]["quality"]) == {"small", "medium", "large"}
        assert sum(why["pmf"].values()) == pytest.approx(1.0)
        assert [attempt["status"] for attempt in why["attempts"]] == ["ok"]
        streamed = await service.client.post(
            "/v1/chat/completions", json={**ASK, "stream": True}, headers=headers
        )
        events = streamed.text.split("\n\n")
        assert events[-2] == "data: [DONE]"
        last = json.loads(events[-3].removeprefix("data: "))
        assert last["choices"] == []
        assert last["router"]["attempts"][0]["status"] == "ok"
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused") as client:
            stream = await client.chat.completions.create(**ASK, stream=True, extra_headers=headers)
            chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == ANSWER


@pytest.mark.asyncio
async def test_tiers_have_their_policy_candidates_and_price(store_url: str) -> None:
    tiers = {
        "free": TierConfig(candidates=("small", "medium"), policy="random"),
        "pro": TierConfig(minimum_tier=Tier.LARGE),
        "thrifty": TierConfig(budget_usd_per_request=1e-9),
    }
    async with three_models(store_url, tiers=tiers) as (service, _):
        free = await decided(service, {"x-router-user-tier": "free"})
        assert free["masked"] == {"large": "not_a_candidate"}
        assert free["policy"] == "random"
        assert free["pmf"]["small"] == pytest.approx(0.5)
        assert free["influences"] == {"user_tier": "free", "state_of": "thompson"}
        assert (await service.decision(free["decision_id"]))["pmf_check"]["equal"] is True
        labelled = await decided(service, metadata={"user_tier": "pro"})
        assert labelled["eligible"] == ["large"]
        asked = await decided(service, {"x-router-user-tier": "free"}, models=["medium", "large"])
        assert asked["eligible"] == ["medium"]
        thrifty = await decided(service, {"x-router-user-tier": "thrifty"})
        usual = await decided(service)
        assert thrifty["price_of_dollar"] > usual["price_of_dollar"] == 0.0
        assert thrifty["pmf"]["small"] > 0.95


@pytest.mark.asyncio
async def test_the_first_rule_that_holds_decides_and_is_logged(store_url: str) -> None:
    rules = (
        RuleConfig(
            name="private",
            when=RuleWhen(metadata={"data": "private"}),
            then=RuleThen(model="small"),
            binding=True,
        ),
        RuleConfig(
            name="maths", when=RuleWhen(metadata={"task": "math"}), then=RuleThen(model="large")
        ),
        RuleConfig(
            name="long", when=RuleWhen(min_input_tokens=500), then=RuleThen(exclude={"large"})
        ),
    )
    async with three_models(store_url, rules=rules) as (service, _):
        both = await decided(service, metadata={"data": "private", "task": "math"})
        assert (both["model"], both["mode"], both["fallbacks"]) == ("small", "rule", [])
        assert both["influences"] == {"rule": "private"}
        maths = await decided(service, metadata={"task": "math"})
        assert (maths["model"], maths["mode"]) == ("large", "rule")
        named = await decided(service, metadata={"task": "math"}, model="medium")
        assert (named["model"], named["mode"]) == ("medium", "override")
        bound = await decided(service, metadata={"data": "private"}, model="medium")
        assert (bound["model"], bound["mode"]) == ("small", "rule")
        long = [{"role": "user", "content": "why? " * 500}]
        narrowed = await decided(service, messages=long)
        assert (narrowed["mode"], narrowed["masked"]) == ("policy", {"large": "excluded"})
        assert narrowed["influences"] == {"rule": "long"}


@pytest.mark.asyncio
async def test_a_session_stays_with_its_model_on_every_replica_and_only_moves_up(
    store_url: str,
) -> None:
    async with (
        three_models(store_url) as (one, _),
        three_models(store_url, sessions=SessionsConfig(idle_s=0.3)) as (short, _),
        three_models(store_url) as (other, _),
    ):
        for session in range(DRAWS):
            headers = {"x-session-id": f"s{session}"}
            first = await decided(one, headers)
            assert first["mode"] == "policy"
            again = await decided(other, headers)
            assert (again["model"], again["mode"]) == (first["model"], "sticky")
            assert again["propensity"] == 1.0
            assert again["influences"] == {"session": f"s{session}"}
        started = await decided(one, {"x-session-id": "up"}, models=["medium"])
        assert started["model"] == "medium"
        up = await decided(one, {"x-session-id": "up"}, router={"exclude": ["medium"]})
        assert (up["model"], up["mode"], up["masked"]["small"]) == ("large", "policy", "below_tier")
        assert (await decided(other, {"x-session-id": "up"}))["model"] == "large"
        begun = await decided(short, {"x-session-id": "idle"})
        assert begun["mode"] == "policy"
        await asyncio.sleep(0.4)
        assert (await decided(short, {"x-session-id": "idle"}))["mode"] == "policy"
        assert (await decided(short, {"x-session-id": "idle"}))["mode"] == "sticky"


@pytest.mark.asyncio
async def test_a_session_is_known_by_the_users_name_or_by_how_it_began(store_url: str) -> None:
    sessions = SessionsConfig(sources=("metadata.chat", "user", "first_messages"))
    async with three_models(store_url, sessions=sessions) as (service, _):
        by_user = await decided(service, user="u-1")
        assert (await decided(service, user="u-1"))["influences"] == {"session": "u-1"}
        labelled = await decided(service, user="u-1", metadata={"chat": "c-1"})
        assert labelled["mode"] == "policy"
        assert by_user["mode"] == "policy"
        begun = await decided(service)
        turn = [*ASK["messages"], {"role": "assistant", "content": "x"}, *ASK["messages"]]
        later = await decided(service, messages=turn)
        assert (later["mode"], later["model"]) == ("sticky", begun["model"])


@pytest.mark.asyncio
async def test_a_session_moves_up_to_the_stronger_model_that_answered(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [
            http_model("small", refused_url(), tier=Tier.SMALL),
            http_model("large", upstream.base_url, tier=Tier.LARGE),
        ]
        async with served(router_config(store_url, *models)) as service:
            ask = {**ASK, "models": ["small", "large"]}
            headers = {"x-session-id": "s"}
            first = await service.client.post(
                "/v1/chat/completions", json={**ask, "model": "small"}, headers=headers
            )
            await service.ended(first.headers["x-router-decision-id"])
            assert first.json()["model"] == "large"
            assert (await decided(service, headers))["model"] == "large"


@pytest.mark.asyncio
async def test_a_workflow_pins_its_model_or_its_tier(store_url: str) -> None:
    workflows = {
        "extract": WorkflowConfig(model="medium", fallbacks=("large",)),
        "review": WorkflowConfig(tier=Tier.LARGE),
    }
    async with three_models(store_url, workflows=workflows) as (service, _):
        pinned = await decided(service, {"x-router-workflow": "extract"})
        assert (pinned["model"], pinned["mode"], pinned["fallbacks"]) == (
            "medium",
            "sticky",
            ["large"],
        )
        tier = await decided(service, router={"workflow": "review"})
        assert (tier["eligible"], tier["influences"]) == (["large"], {"workflow": "review"})


def test_more_than_five_rules_are_refused_with_advice() -> None:
    rules = tuple(RuleConfig(name=f"r{k}", then=RuleThen(explore=False)) for k in range(6))
    with pytest.raises(ValueError, match="keep at most 5, those that a law or a contract demands"):
        router_config(None, ModelConfig(name="m", base_url=refused_url()), rules=rules)


@pytest.mark.asyncio
async def test_bounds_on_dollars_and_quality_are_kept_and_told(store_url: str) -> None:
    async with three_models(store_url) as (service, _):
        # 300 output tokens are expected at first: $0.00015, $0.0006 and $0.0024 by list prices.
        told = await decided(service, router={"max_cost_usd": 0.001})
        assert told["masked"] == {"large": "too_dear"}
        told = await decided(service, {"x-router-max-cost-usd": "0.0003"})
        assert told["masked"] == {"medium": "too_dear", "large": "too_dear"}
        got = await service.client.post(
            "/v1/route", json={**ASK, "router": {"max_cost_usd": 0.00001}}
        )
        assert got.status_code in (400, 422)
        assert "raise max_cost_usd" in got.json()["error"]["message"]
        # Nothing is known yet, so nothing may be tried at the expense of the floor.
        told = await decided(service, router={"quality_floor": 0.99})
        assert sorted(told["masked"].values()) == ["below_floor", "below_floor"]


@pytest.mark.asyncio
async def test_streams_that_would_begin_late_are_left_out_and_whole_answers_are_not(
    store_url: str,
) -> None:
    begins_after_s = {"small": 0.05, "medium": 0.1, "large": 2.0}
    async with three_models(store_url) as (service, _):
        for model in [*begins_after_s] * 4:
            told = await decided(service, router={"model": model})
            outcome = {
                "decision_id": told["decision_id"],
                "model": model,
                "latency_s": 3.0,
                "first_token_s": begins_after_s[model],
                "input_tokens": 10,
                "output_tokens": 10,
            }
            got = await service.client.post("/v1/outcomes", json=outcome)
            assert got.status_code == 200, got.text

        async def learned() -> Any:
            asked = await decided(service, stream=True, router={"max_first_token_s": 0.8})
            return asked if asked["masked"] else None

        told = await eventually(learned)
        assert told["masked"] == {"large": "late_first_token"}
        waited = told["predicted"]["first_token_s"]
        assert waited["small"] < waited["medium"] < waited["large"]
        found = await service.decision(told["decision_id"])
        shown = {each["model"]: each["first_token_s"] for each in found["why"]["candidates"]}
        assert shown == pytest.approx(waited)
        by_header = await decided(service, {"x-router-max-first-token-s": "0.8"}, stream=True)
        assert by_header["masked"] == told["masked"]
        whole = await decided(service, router={"max_first_token_s": 0.8})
        assert whole["masked"] == {}
        beliefs = (await service.client.get("/admin/policies/thompson")).json()
        assert {each["model"]: each["first_token_s"] for each in beliefs["models"]}["large"] > 1.0
