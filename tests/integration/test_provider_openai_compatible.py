"""The HTTP provider against a real socket that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import aiohttp
import pytest
from chain_setup import BODY, call_of, http_model, provider_at

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.protocols import ModelCall, StreamPiece, Usage
from bandit_router.providers.failures import retry_after_s
from bandit_router.providers.openai_compatible import OpenAICompatibleProvider, resolve_key
from bandit_router.providers.registry import build_providers
from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import (
    ANSWER,
    LONG_S,
    USAGE,
    Exchange,
    answer,
    delta,
    event,
    failing_stream,
    hang_up,
    misbehaving,
    refuse,
    refused_url,
    respond,
    silence,
    stream_of,
    truncate,
    whole,
    words_of,
)

S = AttemptStatus
DONE = b"data: [DONE]\n\n"


async def collect(provider: OpenAICompatibleProvider, **changes: object) -> list[StreamPiece]:
    return [piece async for piece in provider.stream(call_of(**changes))]


async def ask(provider: OpenAICompatibleProvider, call: ModelCall, *, streamed: bool) -> None:
    if streamed:
        async for _ in provider.stream(call):
            pass
    else:
        await provider.complete(call)


async def gather_into(pieces: list[StreamPiece], provider: OpenAICompatibleProvider) -> None:
    async for piece in provider.stream(call_of()):
        pieces.append(piece)  # noqa: PERF401  # the list is kept although the loop raises


async def failure_of(provider: OpenAICompatibleProvider, *, streamed: bool) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, call_of(timeout_s=0.4), streamed=streamed)
    return caught.value


@pytest.mark.asyncio
async def test_whole_answer_comes_with_usage_key_and_untouched_body():
    async with misbehaving(answer) as server, provider_at(server.base_url) as provider:
        got = await provider.complete(call_of({**BODY, "future_field": {"x": [1, None]}}))
    assert got.body == whole()
    assert got.usage == Usage(USAGE["prompt_tokens"], USAGE["completion_tokens"], None)
    assert server.headers[0]["authorization"] == "Bearer k-1"
    assert server.bodies == [{**BODY, "future_field": {"x": [1, None]}}]


@pytest.mark.asyncio
async def test_upstreams_own_cost_is_read_and_nonsense_usage_is_unknown():
    paid = respond(200, whole(usage={**USAGE, "cost": 0.25}))
    absurd = respond(200, whole(usage={"prompt_tokens": -3, "completion_tokens": "7", "cost": -1}))
    async with misbehaving(paid, absurd) as server, provider_at(server.base_url) as provider:
        assert (await provider.complete(call_of())).usage.cost_usd == 0.25
        assert (await provider.complete(call_of())).usage == Usage()


@pytest.mark.asyncio
async def test_stream_hides_the_usage_chunk_the_caller_did_not_ask_for():
    async with misbehaving(answer) as server, provider_at(server.base_url) as provider:
        pieces = await collect(provider)
    assert words_of([piece.data for piece in pieces if piece.data]) == ANSWER
    assert [piece for piece in pieces if not piece.data] == [
        StreamPiece(b"", Usage(11, 7, None), content=False)
    ]
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.asyncio
async def test_stream_keeps_the_usage_chunk_the_caller_asked_for():
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    async with misbehaving(answer) as server, provider_at(server.base_url) as provider:
        pieces = [piece async for piece in provider.stream(call_of(body))]
    assert b'"usage"' in pieces[-1].data
    assert pieces[-1].usage == Usage(11, 7, None)


@pytest.mark.asyncio
async def test_connection_is_reused_after_whole_and_streamed_answers():
    async with misbehaving(answer) as server, provider_at(server.base_url) as provider:
        for _ in range(3):
            await provider.complete(call_of())
            await collect(provider)
        assert server.connections == 1


@pytest.mark.asyncio
async def test_idle_connection_closed_by_the_upstream_is_no_failure():
    async def answer_and_leave(exchange: Exchange) -> None:
        await answer(exchange)
        exchange.writer.close()

    async with (
        misbehaving(answer_and_leave, answer, hang_up, answer) as server,
        provider_at(server.base_url) as provider,
    ):
        await provider.complete(call_of())
        # Whether the pool has noticed the close or not, this must answer.
        await provider.complete(call_of())
        # The connection is now in the pool, and cut just as the next request arrives on it.
        assert words_of([p.data for p in await collect(provider) if p.data]) == ANSWER


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "status", "retry", "next_model"),
    [
        (refuse(401), S.AUTHENTICATION, False, True),
        (refuse(403), S.AUTHENTICATION, False, True),
        (refuse(402), S.REJECTED, False, True),
        (refuse(404), S.REJECTED, False, True),
        (refuse(408), S.SERVER_ERROR, True, True),
        (refuse(409), S.SERVER_ERROR, True, True),
        (refuse(413), S.CONTEXT_WINDOW, False, True),
        (refuse(429), S.RATE_LIMITED, True, True),
        (refuse(429, "insufficient_quota"), S.RATE_LIMITED, False, True),
        (refuse(500), S.SERVER_ERROR, True, True),
        (refuse(503), S.SERVER_ERROR, True, True),
        (respond(502, b"<html>Bad gateway"), S.SERVER_ERROR, True, True),
        (refuse(307, Location="http://127.0.0.1:9/"), S.BAD_RESPONSE, False, True),
        (refuse(400), S.REJECTED, False, False),
        (refuse(422), S.REJECTED, False, False),
        (refuse(400, "context_length_exceeded"), S.CONTEXT_WINDOW, False, True),
        (refuse(400, message="This model's maximum context length is 8192 tokens"),
         S.CONTEXT_WINDOW, False, True),
        (refuse(400, "content_filter"), S.CONTENT_FILTER, False, True),
        (refuse(400, "model_not_found"), S.REJECTED, False, True),
        (respond(200, {"error": {"message": "oops"}}), S.BAD_RESPONSE, True, True),
        (respond(200, {"error": {"message": "slow down", "code": 429}}),
         S.RATE_LIMITED, True, True),
        (respond(200, {"error": {"message": "x", "code": "context_length_exceeded"}}),
         S.CONTEXT_WINDOW, False, True),
        (hang_up, S.SERVER_ERROR, True, True),
        (silence, S.TIMEOUT, False, True),
    ],
)  # fmt: skip
async def test_failure_is_treated_as_stated(behaviour, status, retry, next_model, streamed):
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        error = await failure_of(provider, streamed=streamed)
    assert (error.status, error.retry, error.next_model) == (status, retry, next_model), error
    assert "k-1" not in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "behaviour",
    [truncate, respond(200, b'{"choices": ['), respond(200, [1]), respond(200, {"choices": []})],
)
async def test_whole_answer_that_is_no_answer_is_a_bad_response(behaviour):
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        error = await failure_of(provider, streamed=False)
    assert (error.status, error.retry, error.next_model) == (S.BAD_RESPONSE, True, True)


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_connection_sends_on_to_the_next_model_at_once(streamed):
    async with misbehaving(silence, greeting=b"220 no TLS here\r\n") as server:
        for url in (
            refused_url(),
            "http://no-such-host.invalid/v1",
            # A plain-text server is no TLS server.
            server.base_url.replace("http://", "https://"),
        ):
            async with provider_at(url) as provider:
                # More than the provider's own limit for connecting, which bounds slow DNS too.
                patience = call_of(first_token_timeout_s=LONG_S, timeout_s=LONG_S)
                with pytest.raises(ProviderError) as caught:
                    await ask(provider, patience, streamed=streamed)
            error = caught.value
            assert error.status is S.CONNECT_ERROR, url
            assert (error.retry, error.next_model) == (False, True)


@pytest.mark.asyncio
async def test_failed_connection_is_not_taken_for_a_stale_one(monkeypatch):
    asked = []

    async def resolve(_self: object, host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr(aiohttp.AsyncResolver, "resolve", resolve)
    async with provider_at("http://no-such-host.invalid/v1") as provider:
        error = await failure_of(provider, streamed=False)
    assert (error.status, len(asked)) == (S.CONNECT_ERROR, 1)


@pytest.mark.asyncio
async def test_error_body_of_a_malformed_request_is_kept_for_the_caller():
    behaviour = refuse(400, "invalid_value", "'temperature' must be ≤ 2")
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        error = await failure_of(provider, streamed=False)
    assert error.http_status == 400
    assert error.body is not None
    assert b"invalid_value" in error.body
    assert "must be ≤ 2" in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (failing_stream(hang_up), S.STREAM_BROKEN),
        (stream_of(event(delta("Because"))), S.STREAM_BROKEN),
        (stream_of(event(delta("Because")), b"data: {\"choices\": [\n\n"), S.STREAM_BROKEN),
        (stream_of(event(delta("Because")), event({"error": {"message": "oops"}})),
         S.STREAM_BROKEN),
        (stream_of(event(delta("Because")), b"event: error\ndata: {\"message\": \"oops\"}\n\n"),
         S.STREAM_BROKEN),
        (stream_of(event(delta("Because")), event({"error": {"code": "rate_limit_exceeded"}})),
         S.RATE_LIMITED),
        (failing_stream(silence), S.TIMEOUT),
    ],
)  # fmt: skip
async def test_break_in_mid_stream_is_raised_after_the_pieces_before_it(behaviour, status):
    pieces = []
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        with pytest.raises(ProviderError) as caught:
            await gather_into(pieces, provider)
    assert words_of([piece.data for piece in pieces]) == "Because"
    assert caught.value.status is status


@pytest.mark.asyncio
async def test_late_first_token_is_a_timeout_even_after_the_headers():
    behaviour = stream_of(b": keep-alive\n\n", then=silence)
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        error = await failure_of(provider, streamed=True)
    assert error.status is S.TIMEOUT
    assert "first token" in str(error)


@pytest.mark.asyncio
async def test_stream_without_done_but_with_finish_reason_is_whole():
    behaviour = stream_of(event(delta("Because")), event(delta(None, "stop")))
    async with misbehaving(behaviour) as server, provider_at(server.base_url) as provider:
        assert words_of([piece.data for piece in await collect(provider)]) == "Because"


@pytest.mark.asyncio
async def test_events_survive_any_cut_and_any_legal_framing():
    raw = (
        b"\xef\xbb\xbf: hello\r\n\r\n"
        + event(delta("Grüße, ")).replace(b"\n", b"\r\n")
        + b"id: 7\nevent: message\ndata:"
        + event(delta("世界 😀"))[len("data: ") :]
        + b'data: {"choices": [{"delta": {},\ndata:  "finish_reason": "stop"}]}\n\n'
        + b"data: [DONE]"
    )
    for size in (1, 2, 3, 7, 64, len(raw)):
        cuts = [raw[at : at + size] for at in range(0, len(raw), size)]
        async with (
            misbehaving(stream_of(*cuts)) as server,
            provider_at(server.base_url) as provider,
        ):
            pieces = await collect(provider)
        assert words_of([piece.data for piece in pieces]) == "Grüße, 世界 😀"


@pytest.mark.asyncio
async def test_leaving_a_stream_closes_the_upstream_connection():
    async with (
        misbehaving(failing_stream(silence)) as server,
        provider_at(server.base_url) as provider,
    ):
        async with contextlib.aclosing(
            provider.stream(call_of(idle_timeout_s=LONG_S, timeout_s=LONG_S))
        ) as pieces:
            await anext(pieces)
        async with asyncio.timeout(LONG_S):
            await server.peer_left.wait()


@pytest.mark.asyncio
async def test_cancelling_a_whole_call_closes_the_upstream_connection():
    async with misbehaving(silence) as server, provider_at(server.base_url) as provider:
        task = asyncio.create_task(provider.complete(call_of(timeout_s=LONG_S)))
        while not server.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(LONG_S):
            await server.peer_left.wait()


@pytest.mark.asyncio
async def test_retry_after_reaches_the_chain_in_seconds():
    async with (
        misbehaving(refuse(429, Retry_After="7")) as server,
        provider_at(server.base_url) as provider,
    ):
        assert (await failure_of(provider, streamed=False)).retry_after_s == 7.0


def test_retry_after_is_read_as_seconds_milliseconds_or_date():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    date = "Fri, 02 Jan 2026 03:05:05 GMT"
    assert retry_after_s({"Retry-After": "2.5"}, now) == 2.5
    assert retry_after_s({"retry-after-ms": "1500", "Retry-After": "9"}, now) == 1.5
    assert retry_after_s({"Retry-After": date}, now) == 60.0
    skewed = {"Retry-After": date, "Date": "Fri, 02 Jan 2026 03:05:00 GMT"}
    assert retry_after_s(skewed, now) == 5.0
    assert retry_after_s({"Retry-After": "-3"}, now) == 0.0
    for nonsense in ("", "soon", "nan", "inf", "Fri, 99 Foo"):
        assert retry_after_s({"Retry-After": nonsense}, now) is None
    assert retry_after_s({}, now) is None


@pytest.mark.asyncio
async def test_request_that_is_no_json_is_the_callers_fault():
    async with provider_at(refused_url()) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(call_of({**BODY, "seed": 2**80}))
    assert (caught.value.status, caught.value.next_model) == (S.REJECTED, False)


def test_missing_key_names_model_and_variable():
    model = http_model("gpt", "http://x/v1", api_key_env="GPT_KEY")
    assert resolve_key(model, {"GPT_KEY": " k \n"}) == "k"
    assert resolve_key(http_model("open", "http://x/v1"), {}) is None
    with pytest.raises(ConfigError, match=r"'gpt'.*GPT_KEY"):
        build_providers([model], environ={}, clock=SystemClock())
    with pytest.raises(ConfigError, match="cannot carry") as caught:
        resolve_key(model, {"GPT_KEY": "se\ncret"})
    assert "cret" not in str(caught.value)


def test_replayed_model_without_a_recording_is_a_config_error():
    model = ModelConfig(name="r", provider=ProviderKind.REPLAYED)
    with pytest.raises(ConfigError, match="'r' is replayed"):
        build_providers([model], environ={}, clock=SystemClock())
