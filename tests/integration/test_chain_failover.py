"""The fallback chain over real sockets, whole answers: every failure, first and last."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from chain_setup import BODY, DECISION, chain_over, http_model

from bandit_router.completion import prepare_body
from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import AllModelsFailed, DeadlineExceeded, RequestRefused
from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import (
    ANSWER,
    LONG_S,
    answer,
    hang_up,
    misbehaving,
    refuse,
    refused_url,
    respond,
    silence,
    truncate,
)

S = AttemptStatus
USD = 11 * 1.0 / 1e6 + 7 * 2.0 / 1e6
IDS = {"decision_id": DECISION, "context": {}}

# behaviour, status, how often the model is called with num_retries = 1
FAILURES = [
    (None, S.CONNECT_ERROR, 1),
    (silence, S.TIMEOUT, 1),
    (hang_up, S.SERVER_ERROR, 2),
    (refuse(500), S.SERVER_ERROR, 2),
    (refuse(408), S.SERVER_ERROR, 2),
    (refuse(409), S.SERVER_ERROR, 2),
    (refuse(429), S.RATE_LIMITED, 2),
    (refuse(429, Retry_After="1"), S.RATE_LIMITED, 2),
    (refuse(429, Retry_After="3600"), S.RATE_LIMITED, 1),
    (refuse(401), S.AUTHENTICATION, 1),
    (refuse(403), S.AUTHENTICATION, 1),
    (refuse(404), S.REJECTED, 1),
    (refuse(413), S.CONTEXT_WINDOW, 1),
    (refuse(400, "context_length_exceeded"), S.CONTEXT_WINDOW, 1),
    (refuse(400, "content_filter"), S.CONTENT_FILTER, 1),
    (respond(200, {"error": {"message": "oops"}}), S.BAD_RESPONSE, 2),
    (truncate, S.BAD_RESPONSE, 2),
]


def texts(completed) -> str:
    return completed.answer.body["choices"][0]["message"]["content"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("behaviour", "status", "calls"), FAILURES)
async def test_failure_of_the_first_model_is_answered_by_the_second(behaviour, status, calls):
    async with misbehaving(behaviour or answer) as bad, misbehaving(answer) as good:
        first = http_model("first", bad.base_url if behaviour else refused_url())
        second = http_model("second", good.base_url, upstream_model="vendor/second")
        async with chain_over(first, second) as bench:
            done = await bench.chain.complete(["first", "second"], BODY, **IDS)
    assert texts(done) == ANSWER
    assert [(a.model, a.status) for a in done.attempts] == [("first", status)] * calls + [
        ("second", S.OK)
    ]
    assert [attempt.position for attempt in done.attempts] == list(range(calls + 1))
    assert all(attempt.error for attempt in done.attempts[:-1])
    assert len(bad.bodies) == (calls if behaviour else 0)
    assert good.bodies[0]["model"] == "vendor/second"
    assert done.outcome.answered_by == "second"
    assert done.outcome.attempts == calls + 1
    assert done.outcome.cost_usd == pytest.approx(USD)
    assert (done.outcome.input_tokens, done.outcome.output_tokens) == (11, 7)


@pytest.mark.asyncio
@pytest.mark.parametrize(("behaviour", "status", "calls"), FAILURES)
async def test_failure_of_the_last_model_ends_in_the_stated_error(behaviour, status, calls):
    async with misbehaving(behaviour or answer) as bad:
        first = http_model("first", refused_url())
        last = http_model("last", bad.base_url if behaviour else refused_url())
        async with chain_over(first, last) as bench:
            log = bench.chain.new_log(DECISION)
            with pytest.raises(AllModelsFailed, match=f"last: {status}") as caught:
                await bench.chain.complete(["first", "last"], BODY, log=log, **IDS)
    assert [a.status for a in caught.value.attempts] == [S.CONNECT_ERROR] + [status] * calls
    assert log.attempts == caught.value.attempts
    assert (log.outcome().answered_by, log.outcome().status) == (None, status)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 422])
async def test_malformed_request_stops_the_chain_with_the_upstreams_own_words(status):
    async with misbehaving(refuse(status, "invalid_value", "bad tool")) as bad:
        models = [http_model(name, bad.base_url) for name in ("first", "second")]
        async with chain_over(*models) as bench:
            with pytest.raises(RequestRefused, match="bad tool") as caught:
                await bench.chain.complete(["first", "second"], BODY, **IDS)
    assert caught.value.http_status == status
    assert b"invalid_value" in caught.value.body
    assert [attempt.model for attempt in caught.value.attempts] == ["first"]


@pytest.mark.asyncio
async def test_transient_failure_is_retried_on_the_same_model():
    async with (
        misbehaving(refuse(503), refuse(503), answer) as server,
        chain_over(http_model("m", server.base_url), num_retries=2) as bench,
    ):
        done = await bench.chain.complete(["m"], BODY, **IDS)
    assert [attempt.status for attempt in done.attempts] == [S.SERVER_ERROR, S.SERVER_ERROR, S.OK]
    first_s, second_s = bench.slept_s
    assert 0.005 <= first_s <= 0.01 < 2 * first_s + 1e-9
    assert 0.01 <= second_s <= 0.02


@pytest.mark.asyncio
async def test_short_retry_after_is_waited_for_and_a_long_one_is_not():
    async with (
        misbehaving(refuse(429, Retry_After="1.5"), answer) as server,
        chain_over(http_model("m", server.base_url)) as bench,
    ):
        await bench.chain.complete(["m"], BODY, **IDS)
        assert bench.slept_s == [1.5]
    async with misbehaving(refuse(429, Retry_After="1.5"), answer) as server:
        model = http_model("m", server.base_url)
        async with chain_over(model, deadline_s=1.0) as bench:
            with pytest.raises(AllModelsFailed):
                await bench.chain.complete(["m"], BODY, **IDS)
            assert bench.slept_s == []
            assert not bench.breakers.is_closed("m")


@pytest.mark.asyncio
async def test_deadline_bounds_the_whole_chain():
    async with misbehaving(silence) as server:
        models = [http_model(name, server.base_url) for name in "abcd"]
        async with chain_over(*models, deadline_s=0.6, attempt_timeout_s=30.0) as bench:
            began_s = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=r"0\.6 s") as caught:
                await bench.chain.complete(list("abcd"), BODY, **IDS)
            assert time.monotonic() - began_s < 5.0
    assert caught.value.attempts[0].status is S.TIMEOUT
    assert math.isclose(sum(a.latency_s for a in caught.value.attempts), 0.6, abs_tol=0.5)


@pytest.mark.asyncio
async def test_last_resort_has_its_chance_within_the_deadline_when_others_hang():
    async with misbehaving(silence) as hung, misbehaving(answer) as good:
        models = [http_model(name, hung.base_url) for name in "abc"]
        last = http_model("last", good.base_url, local=True, last_resort=True)
        async with chain_over(*models, last, deadline_s=2.0, attempt_timeout_s=60.0) as bench:
            done = await bench.chain.complete(["a", "b", "c", "last"], BODY, **IDS)
    assert done.outcome.answered_by == "last"


@pytest.mark.asyncio
async def test_cooling_models_are_passed_over_but_the_last_resort_is_not():
    async with misbehaving(refuse(500)) as bad, misbehaving(answer) as good:
        models = [http_model(name, bad.base_url) for name in ("a", "b")]
        last = http_model("last", good.base_url, local=True, last_resort=True)
        async with chain_over(*models, last, allowed_fails=1, num_retries=0) as bench:
            names = ["a", "b", "last"]
            await bench.chain.complete(names, BODY, **IDS)
            again = await bench.chain.complete(names, BODY, **IDS)
            assert not bench.breakers.is_closed("b")
    assert [attempt.model for attempt in again.attempts] == ["a", "last"]


@pytest.mark.asyncio
async def test_cooling_models_are_the_last_hope_where_there_is_no_last_resort():
    async with misbehaving(refuse(500), refuse(500), refuse(500), answer) as server:
        models = [http_model(name, server.base_url) for name in ("a", "b")]
        async with chain_over(*models, allowed_fails=1, num_retries=0) as bench:
            with pytest.raises(AllModelsFailed):
                await bench.chain.complete(["a", "b"], BODY, **IDS)
            done = await bench.chain.complete(["a", "b"], BODY, **IDS)
    assert done.outcome.answered_by == "b"


@pytest.mark.asyncio
async def test_chain_is_no_longer_than_max_models_and_its_last_resort():
    models = [http_model(name, refused_url()) for name in "abcde"]
    last = http_model("last", refused_url(), local=True, last_resort=True)
    async with chain_over(*models, last, max_models=2) as bench:
        with pytest.raises(AllModelsFailed) as caught:
            await bench.chain.complete([*"abcde", "last"], BODY, **IDS)
    assert [attempt.model for attempt in caught.value.attempts] == ["a", "b", "last"]


@pytest.mark.asyncio
async def test_local_model_answers_a_real_prompt_when_every_http_model_refuses_connections():
    local = ModelConfig(
        name="local",
        provider=ProviderKind.LLAMA_CPP,
        local=True,
        last_resort=True,
        usd_per_hour=0.36,
    )
    models = [http_model(name, refused_url()) for name in ("a", "b", "c")]
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "temperature": 0,
        "max_tokens": 24,
    }
    patience = {"deadline_s": 120.0, "attempt_timeout_s": 90.0}
    async with chain_over(*models, local, **patience) as bench:
        done = await bench.chain.complete(["a", "b", "c", "local"], body, **IDS)
    assert "4" in texts(done)
    assert [attempt.status for attempt in done.attempts] == [S.CONNECT_ERROR] * 3 + [S.OK]
    assert done.outcome.answered_by == "local"
    assert done.outcome.output_tokens > 0
    assert done.outcome.cost_usd == pytest.approx(done.outcome.latency_s * 1e-4)


@pytest.mark.asyncio
async def test_cancelled_request_leaves_the_upstream_and_its_attempt_in_the_log():
    async with misbehaving(silence) as server:
        model = http_model("m", server.base_url)
        async with chain_over(model, attempt_timeout_s=LONG_S, deadline_s=LONG_S) as bench:
            log = bench.chain.new_log(DECISION)
            task = asyncio.create_task(bench.chain.complete(["m"], BODY, log=log, **IDS))
            while not server.bodies:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(LONG_S):
                await server.peer_left.wait()
    assert [attempt.status for attempt in log.attempts] == [S.CANCELLED]
    assert (log.outcome().status, log.outcome().answered_by) == (S.CANCELLED, None)
    assert bench.breakers.reliability("m") == 1.0


def test_body_loses_only_what_is_the_routers_own():
    body = {**BODY, "models": ["a"], "router": {"x": 1}, "metadata": {"k": "v"}, "odd": [1]}
    sent = prepare_body(body, http_model("m", "http://x/v1", upstream_model="vendor/m"))
    assert sent == {**BODY, "model": "vendor/m", "metadata": {"k": "v"}, "odd": [1]}
    assert "models" in body
