"""The provider for other protocols. Its package is an extra: where it is not installed, that is
told; where it is, an Anthropic server on loopback is spoken to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import uvicorn
from chain_setup import call_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.providers import litellm as module
from bandit_router.providers.litellm import LitellmProvider, load_litellm
from bandit_router.types import AttemptStatus

# litellm's own classes make pydantic warn, and the package is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
INSTALLED = importlib.util.find_spec("litellm") is not None
with_package = pytest.mark.skipif(not INSTALLED, reason="litellm is an extra")
CLAUDE = "anthropic/claude-sonnet-4-5"


def test_without_its_package_the_model_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PACKAGE", "litellm_is_not_here")
    with pytest.raises(ConfigError, match=r"model 'c' needs .* pip install 'bandit-router\[litel"):
        load_litellm("c")


@pytest.mark.parametrize(
    ("changes", "told"),
    [({}, "needs upstream_model"), ({"upstream_model": "x/y", "serves": ["responses"]}, "chat")],
)
def test_what_it_cannot_serve_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelConfig(name="c", provider=ProviderKind.LITELLM, **changes)


class Anthropic:
    """POST /v1/messages as Anthropic answers it. status: what it refuses with, if it does."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusal: tuple[int, str, str] | None = None
        self.waits_s = 0.0

    async def messages(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.waits_s)
        if self.refusal is not None:
            status, kind, message = self.refusal
            error = {"type": "error", "error": {"type": kind, "message": message}}
            return JSONResponse(error, status_code=status, headers={"retry-after": "7"})
        whole = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": "Air scatters blue."}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 11, "output_tokens": 7},
        }
        if not body.get("stream"):
            return JSONResponse(whole)
        begun = {**whole, "content": [], "stop_reason": None}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        block = {"type": "text", "text": ""}
        events.append({"type": "content_block_start", "index": 0, "content_block": block})
        for part in ("Air scatters ", "blue."):
            delta = {"type": "text_delta", "text": part}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        events.append({"type": "content_block_stop", "index": 0})
        usage = {"output_tokens": 7}
        events.append(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
        )
        events.append({"type": "message_stop"})
        raw = b"".join(
            b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
            for event in events
        )
        return Response(raw, media_type="text/event-stream")


@contextlib.asynccontextmanager
async def claude() -> AsyncIterator[tuple[LitellmProvider, Anthropic]]:
    upstream = Anthropic()
    app = Starlette(routes=[Route("/v1/messages", upstream.messages, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    model = ModelConfig(
        name="c",
        provider=ProviderKind.LITELLM,
        upstream_model=CLAUDE,
        base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
    )
    provider = LitellmProvider(model, api_key="k-1", clock=SystemClock())
    try:
        yield provider, upstream
    finally:
        await provider.close()
        server.should_exit = True
        await serving


def asked(**changes: Any) -> Any:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    body = {"model": CLAUDE, "messages": messages, "max_tokens": 50, **changes}
    return call_of(body, first_token_timeout_s=5.0)


@with_package
@pytest.mark.asyncio
async def test_an_anthropic_answer_comes_back_in_openais_shape() -> None:
    async with claude() as (provider, upstream):
        hostile = {"api_base": "http://127.0.0.1:9", "api_key": "stolen", "mock_response": "no"}
        answer = await provider.complete(asked(temperature=0.5, **hostile))
        choice = answer.body["choices"][0]
        assert choice["message"]["content"] == "Air scatters blue."
        assert choice["finish_reason"] == "stop"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)
        sent, headers = upstream.bodies[0], upstream.headers[0]
        assert sent["temperature"] == 0.5
        assert "Be brief." in orjson.dumps(sent["system"]).decode()
        assert headers["x-api-key"] == "k-1"


@with_package
@pytest.mark.asyncio
async def test_an_anthropic_stream_comes_back_in_openais_shape() -> None:
    async with claude() as (provider, _):
        pieces = [piece async for piece in provider.stream(asked())]
        chunks = [orjson.loads(piece.data) for piece in pieces if piece.data]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Air scatters blue."
        (usage,) = [piece.usage for piece in pieces if piece.usage is not None]
        assert (usage.input_tokens, usage.output_tokens) == (11, 7)


@with_package
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "kind", "message", "expected", "next_model"),
    [
        (429, "rate_limit_error", "slow down", AttemptStatus.RATE_LIMITED, True),
        (529, "overloaded_error", "Overloaded", AttemptStatus.SERVER_ERROR, True),
        (401, "authentication_error", "bad key", AttemptStatus.AUTHENTICATION, True),
        (
            *(400, "invalid_request_error", "prompt is too long: 300000 tokens > 200000 maximum"),
            *(AttemptStatus.CONTEXT_WINDOW, True),
        ),
        (400, "invalid_request_error", "max_tokens: too small", AttemptStatus.REJECTED, False),
    ],
)
async def test_an_anthropic_refusal_gets_its_treatment(
    status: int, kind: str, message: str, expected: AttemptStatus, next_model: bool
) -> None:
    async with claude() as (provider, upstream):
        upstream.refusal = (status, kind, message)
        for attempt in (provider.complete(asked()), anext(aiter(provider.stream(asked())))):
            with pytest.raises(ProviderError) as failed:
                await attempt
            assert failed.value.status is expected
            assert failed.value.next_model is next_model


@with_package
@pytest.mark.asyncio
async def test_silence_and_an_absent_server_are_told_apart() -> None:
    async with claude() as (provider, upstream):
        upstream.waits_s = 5.0
        with pytest.raises(ProviderError) as late:
            await provider.complete(call_of(asked().body, timeout_s=0.2))
        assert late.value.status is AttemptStatus.TIMEOUT
    model = ModelConfig(
        name="c",
        provider=ProviderKind.LITELLM,
        upstream_model=CLAUDE,
        base_url="http://127.0.0.1:9",
    )
    absent = LitellmProvider(model, api_key="k-1", clock=SystemClock())
    with pytest.raises(ProviderError) as gone:
        await absent.complete(asked())
    assert gone.value.status in (AttemptStatus.CONNECT_ERROR, AttemptStatus.SERVER_ERROR)
