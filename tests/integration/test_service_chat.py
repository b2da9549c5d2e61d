"""Chat completions over a real socket: what leaves, what is stored, what the headers say."""

from __future__ import annotations

import json
from uuid import UUID

import openai
import pytest
from chain_setup import http_model
from service_process import ASK, router_config, served

from bandit_router.config import Capability
from bandit_router.store.learner_store import PostgresLearnerStore
from simulations.faults.misbehaving import ANSWER, USAGE, answer, misbehaving, refused_url, words_of

JSON_MODE = frozenset({Capability.JSON_MODE})


@pytest.mark.asyncio
async def test_auto_answers_with_the_model_that_was_drawn_and_says_how(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        async with served(router_config(store_url, *models)) as service:
            got = await service.ask()
            assert got.status_code == 200
            body, headers = got.json(), got.headers
            assert body["choices"][0]["message"]["content"] == ANSWER
            assert body["model"] == headers["x-router-model"]
            assert body["model"] in ("small", "large")
            assert headers["x-router-policy"] == "thompson"
            assert headers["x-router-attempts"] == "1"
            cost_usd = (USAGE["prompt_tokens"] * 1.0 + USAGE["completion_tokens"] * 2.0) / 1e6
            assert float(headers["x-router-cost-usd"]) == pytest.approx(cost_usd)
            assert 0.0 <= float(headers["x-router-overhead-ms"]) < 20_000.0
            stored = await service.ended(headers["x-router-decision-id"])
            assert stored["decision"]["model"] == body["model"]
            assert stored["outcome"]["answered_by"] == body["model"]
            assert stored["outcome"]["cost_usd"] == pytest.approx(cost_usd)
            assert [attempt["status"] for attempt in stored["attempts"]] == ["ok"]


@pytest.mark.asyncio
async def test_logged_propensity_equals_the_pmf_entry_in_header_answer_and_database(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large", "third")]
        async with served(router_config(store_url, *models)) as service:
            got = await service.ask()
            decision_id = got.headers["x-router-decision-id"]
            propensity = float(got.headers["x-router-propensity"])
            shown = (await service.decision(decision_id))["decision"]
            assert shown["propensity"] == propensity
            assert shown["pmf"][got.json()["model"]] == propensity
            stored = await PostgresLearnerStore(service.runtime.engine).decision(UUID(decision_id))
            assert stored is not None
            assert stored.propensity == propensity
            assert stored.pmf[stored.arms.index(stored.chosen)] == propensity
            assert stored.pmf.sum() == pytest.approx(1.0, abs=1e-12)
            check = (await service.decision(decision_id))["pmf_check"]
            assert check["equal"] is True
            assert check["recomputed"] == pytest.approx(list(shown["pmf"].values()), abs=1e-12)


@pytest.mark.asyncio
async def test_a_decision_is_stored_before_its_answer_arrives(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        for stream in (False, True):
            async with service.client.stream(
                "POST", "/v1/chat/completions", json={**ASK, "stream": stream}
            ) as got:
                # Only the head of the answer is here yet.
                await service.decision(got.headers["x-router-decision-id"])
                await got.aread()


@pytest.mark.asyncio
async def test_a_named_model_is_taken_and_a_list_narrows_the_choice(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large", "third")]
        async with served(router_config(store_url, *models)) as service:
            named = await service.ask(model="large")
            assert named.json()["model"] == "large"
            assert float(named.headers["x-router-propensity"]) == 1.0
            shown = (await service.decision(named.headers["x-router-decision-id"]))["decision"]
            assert shown["mode"] == "override"
            narrowed = await service.ask(models=["small", "third"])
            shown = (await service.decision(narrowed.headers["x-router-decision-id"]))["decision"]
            assert shown["eligible"] == ["small", "third"]
            assert shown["masked"] == {"large": "not_a_candidate"}


@pytest.mark.asyncio
async def test_a_named_model_falls_back_along_the_callers_own_list(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        dead = http_model("dead", refused_url())
        models = [dead, http_model("small", upstream.base_url), http_model("b", refused_url())]
        async with served(router_config(store_url, *models)) as service:
            got = await service.ask(model="dead", models=["dead", "b", "small"])
            assert got.json()["model"] == "small"
            assert got.headers["x-router-attempts"] == "3"
            stored = await service.ended(got.headers["x-router-decision-id"])
            assert [attempt["model"] for attempt in stored["attempts"]] == ["dead", "b", "small"]
            assert stored["outcome"]["answered_by"] == "small"
            alone = await service.ask(model="dead")
            assert alone.status_code == 502


@pytest.mark.asyncio
async def test_unknown_fields_reach_the_model_and_router_fields_do_not(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model("small", upstream.base_url, upstream_model="vendor/small-1")]
        async with served(router_config(store_url, *models)) as service:
            extra = {"temperature": 0.3, "field_of_next_year": {"deep": [1, None]}}
            await service.ask(models=["small"], metadata={"task": "math"}, **extra)
            sent = upstream.bodies[-1]
            assert sent == {"messages": ASK["messages"], "model": "vendor/small-1", **extra}
            await service.ask(store=True, metadata={"task": "math"})
            assert upstream.bodies[-1]["metadata"] == {"task": "math"}


@pytest.mark.asyncio
async def test_labels_session_and_needs_reach_the_decision(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = [
            http_model("plain", upstream.base_url),
            http_model("strict", upstream.base_url, capabilities=JSON_MODE),
        ]
        async with served(router_config(store_url, *models)) as service:
            body = {**ASK, "metadata": {"task": "math"}, "response_format": {"type": "json_object"}}
            got = await service.client.post(
                "/v1/chat/completions", json=body, headers={"x-session-id": "s-9"}
            )
            shown = (await service.decision(got.headers["x-router-decision-id"]))["decision"]
            assert got.json()["model"] == "strict"
            assert shown["masked"] == {"plain": "capability"}
            assert shown["metadata"] == {"task": "math"}
            assert shown["session_id"] == "s-9"
            assert shown["prompt"] is None


@pytest.mark.asyncio
async def test_a_stream_arrives_event_by_event_and_ends_with_done(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        got = await service.ask(stream=True)
        assert got.headers["content-type"].startswith("text/event-stream")
        assert got.headers["x-router-model"] == "small"
        assert "x-router-cost-usd" not in got.headers
        events = got.text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        datas = [event.removeprefix("data: ").encode() for event in events[:-2]]
        assert words_of(datas) == ANSWER
        assert {json.loads(data)["model"] for data in datas} == {"small"}
        # The usage was asked for upstream, but not by the caller.
        assert all(json.loads(data)["choices"] for data in datas)
        stored = await service.ended(got.headers["x-router-decision-id"])
        assert stored["outcome"]["status"] == "ok"
        assert stored["outcome"]["output_tokens"] == USAGE["completion_tokens"]
        assert stored["outcome"]["first_token_s"] is not None


@pytest.mark.asyncio
async def test_the_official_client_works_with_nothing_but_a_base_url(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
        openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client,
    ):
        whole = await client.chat.completions.create(**ASK)
        assert whole.choices[0].message.content == ANSWER
        stream = await client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == ANSWER
        assert chunks[-1].usage.completion_tokens == USAGE["completion_tokens"]
        listed = [model.id async for model in await client.models.list()]
        assert listed == ["auto", "small"]
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**{**ASK, "model": "nobody"})
        assert caught.value.code == "model_not_found"
