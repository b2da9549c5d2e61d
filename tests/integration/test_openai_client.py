"""The official client cannot tell the router from the upstream behind it.

The table is kept in docs/openai-client-equality.md; BANDIT_ROUTER_WRITE_ARTEFACTS=1 writes
it anew.
"""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from chain_setup import fallback, http_model
from openai import AsyncOpenAI
from openai_cases import CASES, HELLO
from openai_outcome import check_table, kind, outcome
from scripted_upstream import scripted_upstream
from service_process import Served, router_config, served

from bandit_router.config import Capability, ServerConfig
from bandit_router.types import GENERATING, Operation

pytestmark = pytest.mark.asyncio
LEAST_CASES = 40


def client_of(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


def config_of(store_url: str, base_url: str) -> Any:
    patience = {"attempt_timeout_s": 5.0, "first_token_timeout_s": 5.0, "idle_timeout_s": 5.0}
    return router_config(
        store_url,
        http_model("small", base_url, serves=GENERATING, capabilities=frozenset(Capability)),
        http_model("embedder", base_url, serves=frozenset({Operation.EMBEDDINGS})),
        fallback=fallback(**patience),
    )


async def test_the_client_gets_equal_objects_from_the_router_and_the_upstream(
    store_url: str,
) -> None:
    rows, unequal = [], []
    async with (
        scripted_upstream() as (base_url, _),
        served(config_of(store_url, base_url)) as service,
    ):
        for number, case in enumerate(CASES, start=1):
            # Every other case leaves the choice to the router, where it may.
            named = case.name.startswith("responses, going on") or number % 2 == 1
            through = await outcome(case, f"{service.url}/v1", "small" if named else "auto")
            direct = await outcome(case, base_url, "small")
            assert case.raises is None or "raises" in direct
            if through != direct:
                unequal.append((case.name, through, direct))
            model = "named" if named else "auto"
            said = "equal class" if case.by_class else "equal"
            rows.append(f"| {number} | {case.name} | {model} | {kind(direct)} | {said} |")
    assert not unequal, unequal[:3]
    assert len({case.name for case in CASES}) >= LEAST_CASES
    check_table("A recorded upstream", rows)


async def test_every_operation_is_logged_with_its_decision_attempt_and_outcome(
    store_url: str,
) -> None:
    asked = {
        "completions": {"model": "auto", "prompt": "Once"},
        "responses": {"model": "auto", "input": "Why?"},
        "embeddings": {"model": "embedder", "input": ["a", "b"]},
    }
    async with (
        scripted_upstream() as (base_url, _),
        served(config_of(store_url, base_url)) as service,
    ):
        for operation, body in asked.items():
            for stream in (False, True) if operation != "embeddings" else (False,):
                sent = {**body, "stream": True} if stream else body
                got = await service.client.post(f"/v1/{operation}", json=sent)
                assert got.status_code == 200, got.text
                found = await service.ended(got.headers["x-router-decision-id"])
                answered_by = "embedder" if operation == "embeddings" else "small"
                assert found["decision"]["operation"] == operation
                assert found["outcome"]["answered_by"] == answered_by
                assert found["outcome"]["status"] == "ok"
                assert found["outcome"]["input_tokens"] in (4, 9, 11)
                assert found["outcome"]["cost_usd"] > 0.0
                assert len(found["attempts"]) == 1
                assert got.headers["x-router-model"] == answered_by


REFUSED: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("completions", {"model": "auto"}, 422, "prompt"),
    ("completions", {"model": "auto", "prompt": []}, 422, "prompt"),
    ("completions", {"model": "auto", "prompt": [1, "a"]}, 422, "prompt"),
    ("completions", {"model": "embedder", "prompt": "a"}, 404, "small"),
    ("embeddings", {"model": "auto", "input": "a"}, 422, "cannot be compared"),
    ("embeddings", {"model": "small", "input": "a"}, 404, "embedder"),
    ("embeddings", {"model": "embedder", "input": {}}, 422, "input"),
    ("embeddings", {"model": "embedder", "input": "a", "stream": True}, 422, "stream"),
    ("responses", {"model": "auto", "input": 7}, 422, "input"),
    ("responses", {"model": "auto", "input": "a", "background": True}, 422, "background"),
    ("responses", {"model": "auto", "input": "a", "previous_response_id": "r"}, 422, "name"),
    ("responses", {"model": "auto", "input": "a", "text": {"format": 7}}, 422, "format"),
    ("chat/completions", {"model": "embedder", "messages": HELLO}, 404, "small"),
)


async def test_what_an_operation_cannot_do_is_refused_with_advice(store_url: str) -> None:
    async with served(config_of(store_url, "http://127.0.0.1:9/v1")) as service:
        for operation, body, status, named in REFUSED:
            got = await service.client.post(f"/v1/{operation}", json=body)
            assert got.status_code == status, (operation, body, got.text)
            assert named in got.json()["error"]["message"]


async def test_the_clients_models_list_and_errors_of_the_router_itself(store_url: str) -> None:
    config = config_of(store_url, "http://127.0.0.1:9/v1")
    closed = config.model_copy(update={"server": ServerConfig(require_api_key=True, port=0)})
    async with served(config) as service, client_of(service.url) as client:
        assert [m.id async for m in client.models.list()] == ["auto", "small", "embedder"]
        assert (await client.models.retrieve("small")).id == "small"
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await client.chat.completions.create(model="nobody", messages=HELLO)
        with pytest.raises(openai.InternalServerError, match="every model"):
            await client.chat.completions.create(model="auto", messages=HELLO)
        with pytest.raises(openai.UnprocessableEntityError):
            await client.chat.completions.create(model="auto", messages=[])
    async with served(closed) as service, client_of(service.url) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with client_of(service.url) as client:
        with pytest.raises(openai.APIConnectionError):
            await client.models.list()


async def test_usage_is_streamed_to_those_who_ask_for_it_only(store_url: str) -> None:
    async def chunks(service: Served, **options: Any) -> list[str]:
        got: httpx.Response = await service.ask(stream=True, **options)
        assert got.status_code == 200, got.text
        return got.text.split("\n\n")

    async with (
        scripted_upstream() as (base_url, upstream),
        served(config_of(store_url, base_url)) as service,
    ):
        assert not any('"usage"' in chunk for chunk in await chunks(service))
        assert upstream.bodies[-1]["stream_options"] == {"include_usage": True}
        asked = await chunks(service, stream_options={"include_usage": True})
        assert sum('"total_tokens"' in chunk for chunk in asked) == 1
