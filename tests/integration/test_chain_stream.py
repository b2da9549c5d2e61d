"""The fallback chain over real sockets, streamed: switch before the first byte, never after."""

from __future__ import annotations

import asyncio

import pytest
from chain_setup import BODY, DECISION, chain_over, http_model

from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import AllModelsFailed, ProviderError, RequestRefused
from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import (
    ANSWER,
    LONG_S,
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
    words_of,
)

S = AttemptStatus
IDS = {"decision_id": DECISION, "context": {}}
STREAMED = {**BODY, "stream": True}
USD = 11 * 1.0 / 1e6 + 7 * 2.0 / 1e6

# behaviour, status, how often the model is called with num_retries = 1
FAILURES_BEFORE_THE_FIRST_PIECE = [
    (None, S.CONNECT_ERROR, 1),
    (silence, S.TIMEOUT, 1),
    (stream_of(b": wait\n\n", then=silence), S.TIMEOUT, 1),
    (hang_up, S.SERVER_ERROR, 2),
    (stream_of(then=hang_up), S.STREAM_BROKEN, 2),
    (stream_of(), S.STREAM_BROKEN, 2),
    (stream_of(b"data: [DONE]\n\n"), S.STREAM_BROKEN, 2),
    (stream_of(event({"error": {"message": "oops"}})), S.STREAM_BROKEN, 2),
    (stream_of(b"data: {\"choices\n\n"), S.STREAM_BROKEN, 2),
    (respond(200, {"error": {"message": "oops"}}), S.BAD_RESPONSE, 2),
    (refuse(401), S.AUTHENTICATION, 1),
    (refuse(404), S.REJECTED, 1),
    (refuse(413), S.CONTEXT_WINDOW, 1),
    (refuse(429), S.RATE_LIMITED, 2),
    (refuse(500), S.SERVER_ERROR, 2),
]  # fmt: skip


async def drain(stream) -> list[bytes]:
    return [piece.data async for piece in stream if piece.data]


@pytest.mark.asyncio
@pytest.mark.parametrize(("behaviour", "status", "calls"), FAILURES_BEFORE_THE_FIRST_PIECE)
async def test_failure_before_the_first_piece_falls_over(behaviour, status, calls):
    async with misbehaving(behaviour or answer) as bad, misbehaving(answer) as good:
        first = http_model("first", bad.base_url if behaviour else refused_url())
        async with chain_over(first, http_model("second", good.base_url)) as bench:
            stream = await bench.chain.open_stream(["first", "second"], STREAMED, **IDS)
            assert stream.model == "second"
            assert words_of(await drain(stream)) == ANSWER
            await stream.aclose()
    assert [(a.model, a.status) for a in stream.attempts] == [("first", status)] * calls + [
        ("second", S.OK)
    ]
    outcome = stream.outcome()
    assert (outcome.answered_by, outcome.status) == ("second", S.OK)
    assert outcome.cost_usd == pytest.approx(USD)
    assert 0.0 < outcome.first_token_s <= outcome.latency_s


@pytest.mark.asyncio
@pytest.mark.parametrize(("behaviour", "status", "calls"), FAILURES_BEFORE_THE_FIRST_PIECE)
async def test_failure_of_the_last_model_is_raised_before_any_byte(behaviour, status, calls):
    async with misbehaving(behaviour or answer) as bad:
        model = http_model("last", bad.base_url if behaviour else refused_url())
        async with chain_over(model) as bench:
            with pytest.raises(AllModelsFailed) as caught:
                await bench.chain.open_stream(["last"], STREAMED, **IDS)
    assert [attempt.status for attempt in caught.value.attempts] == [status] * calls


@pytest.mark.asyncio
@pytest.mark.parametrize(("failure", "status"), [(hang_up, S.STREAM_BROKEN), (silence, S.TIMEOUT)])
async def test_nothing_is_switched_after_the_first_piece(failure, status):
    async with misbehaving(failing_stream(failure)) as bad, misbehaving(answer) as good:
        models = [http_model("first", bad.base_url), http_model("second", good.base_url)]
        async with chain_over(*models) as bench:
            stream = await bench.chain.open_stream(["first", "second"], STREAMED, **IDS)
            assert words_of([(await anext(stream)).data]) == "Because"
            with pytest.raises(ProviderError):
                await anext(stream)
            await stream.aclose()
    assert good.bodies == []
    outcome = stream.outcome()
    assert (outcome.status, outcome.answered_by) == (status, "first")
    # The upstream never said what it used: one piece is booked as one token.
    assert outcome.output_tokens == 1
    assert outcome.cost_usd > 0.0
    assert bench.breakers.reliability("first") < 1.0


@pytest.mark.asyncio
async def test_malformed_request_stops_a_stream_before_it_begins():
    async with misbehaving(refuse(400, "invalid_value")) as bad:
        models = [http_model(name, bad.base_url) for name in ("a", "b")]
        async with chain_over(*models) as bench:
            with pytest.raises(RequestRefused) as caught:
                await bench.chain.open_stream(["a", "b"], STREAMED, **IDS)
    assert len(caught.value.attempts) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["aclose", "cancel"])
async def test_consumer_that_leaves_closes_the_upstream_and_is_booked(how):
    async with misbehaving(failing_stream(silence)) as server:
        model = http_model("m", server.base_url)
        patience = {"idle_timeout_s": LONG_S, "deadline_s": LONG_S}
        async with chain_over(model, **patience) as bench:
            stream = await bench.chain.open_stream(["m"], STREAMED, **IDS)
            await anext(stream)
            if how == "cancel":
                waiting = asyncio.create_task(anext(stream))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                await stream.aclose()
            async with asyncio.timeout(LONG_S):
                await server.peer_left.wait()
    outcome = stream.outcome()
    assert (outcome.status, outcome.answered_by, outcome.output_tokens) == (S.CANCELLED, "m", 1)
    assert outcome.cost_usd > 0.0
    assert bench.breakers.reliability("m") == 1.0


@pytest.mark.asyncio
async def test_stream_that_makes_progress_may_outlast_the_attempt_timeout():
    raws = [event(delta(f"{count} ")) for count in range(8)] + [event(delta(None, "stop"))]
    async with misbehaving(stream_of(*raws, pause_s=0.05)) as server:
        model = http_model("m", server.base_url)
        async with chain_over(model, attempt_timeout_s=0.25) as bench:
            stream = await bench.chain.open_stream(["m"], STREAMED, **IDS)
            assert words_of(await drain(stream)) == "0 1 2 3 4 5 6 7 "
    assert stream.outcome().status is S.OK


@pytest.mark.asyncio
async def test_local_model_streams_when_every_http_model_refuses_connections():
    local = ModelConfig(name="local", provider=ProviderKind.LLAMA_CPP, local=True, last_resort=True)
    body = {
        **STREAMED,
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "temperature": 0,
        "max_tokens": 24,
    }
    patience = {
        "deadline_s": 120.0,
        "attempt_timeout_s": 90.0,
        "first_token_timeout_s": 90.0,
        "idle_timeout_s": 90.0,
    }
    async with chain_over(http_model("a", refused_url()), local, **patience) as bench:
        stream = await bench.chain.open_stream(["a", "local"], body, **IDS)
        assert "4" in words_of(await drain(stream))
    assert [attempt.status for attempt in stream.attempts] == [S.CONNECT_ERROR, S.OK]
