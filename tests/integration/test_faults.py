"""The failure matrix over real sockets, and what only a chain on its own can show."""

from __future__ import annotations

import asyncio

import pytest
from chain_setup import BODY, DECISION, chain_over, http_model

from bandit_router.chain_budget import ChainBudget
from bandit_router.errors import AllModelsFailed, CostLimitReached
from bandit_router.types import AttemptStatus
from simulations.faults.catalogue import FAULTS
from simulations.faults.matrix import Case, all_cases, judged, run_matrix
from simulations.faults.misbehaving import (
    ANSWER,
    answer,
    delta,
    event,
    failing_stream,
    hang_up,
    misbehaving,
    refuse,
    silence,
    stream_of,
    truncate,
    words_of,
)

S = AttemptStatus
IDS = {"decision_id": DECISION, "context": {}}
STREAMED = {**BODY, "stream": True}


def test_every_failure_ends_as_stated_streamed_and_whole_first_last_and_alone() -> None:
    results = asyncio.run(run_matrix())
    assert len(results) == len(FAULTS) * 2 * 3
    assert [result for result in results if result.problems] == []


def test_matrix_itself_sees_a_wrong_end_a_missing_attempt_and_a_late_answer() -> None:
    case = next(case for case in all_cases() if case.position == "first")
    good = (case.expected_end, case.expected_attempts, 0.1)
    assert judged(case, *good).problems == ()
    assert len(judged(case, "502 all_models_failed", *good[1:]).problems) == 1
    assert len(judged(case, good[0], good[1][1:], 0.1).problems) == 1
    assert len(judged(case, *good[:2], 60.0).problems) == 1


def test_malformed_requests_and_streams_under_way_are_never_switched() -> None:
    for fault in FAULTS:
        for stream in (False, True):
            case = Case(fault, stream, "first")
            if case.treatment.inside or case.treatment.stops:
                assert all(model != "good" for model, _ in case.expected_attempts)


@pytest.mark.asyncio
async def test_held_stream_that_dies_falls_over_and_one_that_lives_loses_nothing():
    raws = [event(delta(f"{count} ")) for count in range(6)] + [event(delta(None, "stop"))]
    slow = stream_of(*raws, b"data: [DONE]\n\n", pause_s=0.04)
    async with misbehaving(failing_stream(hang_up)) as bad, misbehaving(slow) as good:
        models = [http_model("bad", bad.base_url), http_model("good", good.base_url)]
        async with chain_over(*models, hold_first_s=0.1, num_retries=0) as bench:
            stream = await bench.chain.open_stream(["bad", "good"], STREAMED, **IDS)
            words = words_of([piece.data async for piece in stream if piece.data])
            await stream.aclose()
    assert words == "0 1 2 3 4 5 "
    assert [a.status for a in stream.attempts] == [S.STREAM_BROKEN, S.OK]


@pytest.mark.asyncio
async def test_consumer_that_leaves_a_held_stream_closes_the_upstream():
    async with misbehaving(failing_stream(silence)) as server:
        model = http_model("m", server.base_url)
        async with chain_over(model, hold_first_s=0.05, idle_timeout_s=20.0) as bench:
            stream = await bench.chain.open_stream(["m"], STREAMED, **IDS)
            await anext(stream)
            await stream.aclose()
            async with asyncio.timeout(5.0):
                await server.peer_left.wait()
    assert [a.status for a in stream.attempts] == [S.CANCELLED]


@pytest.mark.asyncio
async def test_role_alone_is_not_yet_an_answer():
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    async with (
        misbehaving(stream_of(role, then=hang_up)) as bad,
        misbehaving(answer) as good,
    ):
        models = [http_model("bad", bad.base_url), http_model("good", good.base_url)]
        async with chain_over(*models, num_retries=0) as bench:
            stream = await bench.chain.open_stream(["bad", "good"], STREAMED, **IDS)
            words = words_of([piece.data async for piece in stream if piece.data])
    assert words == ANSWER
    assert stream.attempts[0].first_token_s is None


@pytest.mark.asyncio
async def test_stream_that_was_never_handed_on_answered_nobody():
    async with (
        misbehaving(failing_stream(hang_up)) as bad,
        chain_over(http_model("m", bad.base_url), hold_first_s=0.2) as bench,
    ):
        log = bench.chain.new_log(DECISION)
        with pytest.raises(AllModelsFailed):
            await bench.chain.open_stream(["m"], STREAMED, log=log, **IDS)
    assert log.outcome().answered_by is None
    assert log.outcome().cost_usd > 0.0  # the piece that came was paid for


@pytest.mark.asyncio
async def test_request_too_long_for_one_window_goes_to_wider_ones_first_and_never_to_smaller():
    async with (
        misbehaving(refuse(400, "context_length_exceeded")) as full,
        misbehaving(answer) as good,
    ):
        models = [
            http_model("middle", full.base_url, context_window_tokens=8000),
            http_model("small", good.base_url, context_window_tokens=4000),
            http_model("same", full.base_url, context_window_tokens=8000),
            http_model("wide", good.base_url, context_window_tokens=32000),
        ]
        async with chain_over(*models) as bench:
            done = await bench.chain.complete(["middle", "small", "same", "wide"], BODY, **IDS)
            assert [a.model for a in done.attempts] == ["middle", "wide"]
            with pytest.raises(AllModelsFailed) as caught:
                await bench.chain.complete(["middle", "small", "same"], BODY, **IDS)
    assert [a.model for a in caught.value.attempts] == ["middle", "same"]


@pytest.mark.asyncio
async def test_refused_key_is_not_shown_again_in_the_same_chain():
    async with misbehaving(refuse(401)) as bad, misbehaving(answer) as good:
        models = [
            http_model("a", bad.base_url, api_key_env="KEY"),
            http_model("b", bad.base_url, api_key_env="KEY"),
            http_model("c", good.base_url),
        ]
        async with chain_over(*models, environ={"KEY": "k"}) as bench:
            done = await bench.chain.complete(["a", "b", "c"], BODY, **IDS)
            assert not bench.breakers.is_closed("b")
    assert [a.model for a in done.attempts] == ["a", "c"]
    assert len(bad.bodies) == 1


@pytest.mark.asyncio
async def test_one_cost_budget_holds_for_all_attempts_and_spares_the_last_resort():
    budget = ChainBudget(0.010, {"a": 0.006, "b": 0.006, "last": 0.006})
    async with misbehaving(truncate) as bad, misbehaving(answer) as good:
        models = [http_model("a", bad.base_url), http_model("b", good.base_url)]
        last = http_model("last", good.base_url, local=True, last_resort=True)
        async with chain_over(*models, last, num_retries=0) as bench:
            with pytest.raises(CostLimitReached, match=r"0\.01 dollars") as caught:
                await bench.chain.complete(["a", "b"], BODY, budget=budget, **IDS)
            assert [a.model for a in caught.value.attempts] == ["a"]
            done = await bench.chain.complete(["a", "b", "last"], BODY, budget=budget, **IDS)
            assert done.outcome.answered_by == "last"
            wide = ChainBudget(0.012, budget.expected_usd)
            done = await bench.chain.complete(["a", "b"], BODY, budget=wide, **IDS)
            assert done.outcome.answered_by == "b"
