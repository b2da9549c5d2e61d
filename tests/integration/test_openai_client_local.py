"""The official client cannot tell the router from the model server behind it: llama.cpp's own,
with a real model.

The table is kept in docs/openai-client-equality.md; BANDIT_ROUTER_WRITE_ARTEFACTS=1 writes
it anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest
from chain_setup import fallback
from openai_cases import USAGE, Case, asking, chat, completion, response, without_retries
from openai_outcome import check_table, kind, outcome
from service_process import router_config, served

from bandit_router.config import Capability, ModelConfig, ProviderKind
from bandit_router.providers import llama_cpp
from bandit_router.types import GENERATING

pytestmark = pytest.mark.asyncio
# A prompt that is read from the cache is summed up in another order.
SETTLED: dict[str, Any] = {"temperature": 0, "seed": 1, "extra_body": {"cache_prompt": False}}
SHORT: Any = [{"role": "user", "content": "Sky?"}]
FEW = {"messages": SHORT, **SETTLED, "max_tokens": 4}
YES_OR_NO = {
    "type": "json_schema",
    "json_schema": {
        "name": "warm",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"warm": {"type": "boolean"}},
            "required": ["warm"],
            "additionalProperties": False,
        },
    },
}
TOLD = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": [{"type": "text", "text": "Heißt blau"}]},
    {"role": "assistant", "content": "青"},
    {"role": "user", "content": "Again."},
]
ONCE = {**SETTLED, "max_tokens": 4}
ANSWERS = {"temperature": 0, "extra_body": {"cache_prompt": False}, "max_output_tokens": 4}

CASES: tuple[Case, ...] = (
    Case("chat", chat(**FEW)),
    Case("chat, a conversation, parts, outside ASCII", chat(**{**FEW, "messages": TOLD})),
    Case("chat, n = 2", chat(n=2, **FEW)),
    Case("chat, logprobs", chat(logprobs=True, top_logprobs=2, **FEW)),
    Case("chat, stop and penalties", chat(stop=["answer"], presence_penalty=0.5, **FEW)),
    Case("chat, max_completion_tokens", chat(messages=SHORT, max_completion_tokens=4, **SETTLED)),
    Case("chat, json_schema", chat(response_format=YES_OR_NO, **{**FEW, "max_tokens": 12})),
    Case("chat stream", chat(stream=True, **FEW)),
    Case("chat stream, usage", chat(stream=True, **USAGE, **FEW)),
    Case("chat stream, n = 2", chat(stream=True, n=2, **FEW)),
    Case("chat stream, logprobs", chat(stream=True, logprobs=True, **FEW)),
    Case(
        "chat stream, json_schema",
        chat(stream=True, response_format=YES_OR_NO, **{**FEW, "max_tokens": 12}),
    ),
    Case("async chat", chat(**FEW), asynchronous=True),
    Case("async chat stream", chat(stream=True, **FEW), asynchronous=True),
    Case("completions", completion(**ONCE)),
    Case("completions stream", completion(stream=True, **ONCE)),
    Case("responses", response(**ANSWERS)),
    Case("responses stream", response(stream=True, **ANSWERS)),
    Case(
        "400",
        without_retries(chat(**{**FEW, "temperature": "hot"})),
        raises=openai.BadRequestError,
    ),
    Case(
        "a prompt that is too long",
        without_retries(chat(**{**FEW, **asking("a b c " * 5000)})),
        by_class=True,
        raises=openai.BadRequestError,
    ),
)
# What no two calls have in common.
OF_THE_CALL = ("created", "created_at", "completed_at", "timings", "id", "item_id")


def in_order(got: Any) -> Any:
    """A stream's pieces choice after choice: in which order several come is chance. llama.cpp's
    timings go with the usage, for which the router asks; those who did not ask get neither."""
    if not isinstance(got, list):
        return got
    indices = [[choice["index"] for choice in piece.get("choices", ())] for piece in got]
    last = max((index for found in indices for index in found), default=0)
    order = sorted(range(len(got)), key=lambda at: (indices[at] or [last + 1])[0])
    asked = bool(indices) and indices[-1] == []
    left_out = () if asked else ("timings",)
    return [{key: got[at][key] for key in got[at] if key not in left_out} for at in order]


def settled(got: Any, seen: dict[str, str]) -> Any:
    """Times by their types, and ids by where they came first."""
    if isinstance(got, list):
        return [settled(item, seen) for item in got]
    if not isinstance(got, dict):
        return got
    return {key: _settled(key, value, seen) for key, value in got.items()}


def _settled(key: str, value: Any, seen: dict[str, str]) -> Any:
    if key in OF_THE_CALL and isinstance(value, str):
        prefix = value.partition("_")[0].partition("-")[0]
        return seen.setdefault(value, f"{prefix} {len(seen)}")
    if key == "timings":
        return sorted(value)
    if key in OF_THE_CALL and key not in ("id", "item_id"):
        return type(value).__name__
    return settled(value, seen)


async def test_the_client_gets_equal_objects_from_the_router_and_a_real_model_server(
    store_url: str,
) -> None:
    path = llama_cpp.default_model_path()
    model = ModelConfig(
        name=path.stem,
        provider=ProviderKind.LLAMA_CPP,
        local=True,
        serves=GENERATING,
        capabilities=frozenset(Capability),
    )
    patience = {"attempt_timeout_s": 60.0, "first_token_timeout_s": 60.0, "idle_timeout_s": 60.0}
    config = router_config(store_url, model, fallback=fallback(deadline_s=120.0, **patience))
    rows, unequal, user = [], [], object()
    async with served(config) as service:
        # The very server that the router calls, in this process.
        server = await asyncio.to_thread(
            llama_cpp.load, path, llama_cpp.DEFAULT_CONTEXT_TOKENS, user
        )
        try:
            assert len(llama_cpp._loaded) == 1
            for number, case in enumerate(CASES, start=1):
                named = number % 2 == 1
                through = await outcome(case, f"{service.url}/v1", path.stem if named else "auto")
                transport: Any = (
                    httpx.AsyncHTTPTransport if case.asynchronous else httpx.HTTPTransport
                )
                client: Any = httpx.AsyncClient if case.asynchronous else httpx.Client
                direct = await outcome(
                    case,
                    server.base_url,
                    path.stem,
                    api_key=server.api_key,
                    http_client=client(transport=transport(uds=server.socket_path)),
                )
                assert case.raises is None or "raises" in direct
                here, there = (settled(in_order(got), {}) for got in (through, direct))
                if here != there:
                    unequal.append((case.name, here, there))
                model_said = "named" if named else "auto"
                said = "equal class" if case.by_class else "equal"
                rows.append(f"| {number} | {case.name} | {model_said} | {kind(direct)} | {said} |")
        finally:
            await asyncio.to_thread(llama_cpp.release, path, llama_cpp.DEFAULT_CONTEXT_TOKENS, user)
    assert not unequal, unequal[:3]
    check_table("A real model", rows)
