"""The replayed provider: recorded figures, plain words, faults on demand."""

from __future__ import annotations

import random

import orjson
import pytest
from chain_setup import BODY, call_of

from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ProviderError
from bandit_router.protocols import ModelCall, Usage
from bandit_router.providers.replayed import (
    Fault,
    FaultPlan,
    RecordedOutcome,
    Recording,
    ReplayedProvider,
)
from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import words_of

RECORDING = Recording(
    outcomes={"p-7": {"vendor/small": RecordedOutcome(0.8, 1.5e-4, 12, 34, 0.5)}},
    prompt_ids={"Why is the sky blue?": "p-7"},
)
MODEL = ModelConfig(name="small", provider=ProviderKind.REPLAYED, upstream_model="vendor/small")
TEXT = "[replayed answer of small to p-7]"


@pytest.mark.asyncio
async def test_answer_says_it_is_replayed_and_carries_the_recorded_figures():
    answer = await ReplayedProvider(MODEL, RECORDING).complete(call_of())
    assert answer.usage == Usage(12, 34, 1.5e-4)
    assert answer.body["usage"]["cost"] == 1.5e-4
    assert answer.body["system_fingerprint"] == "replayed"
    assert answer.body["choices"][0]["message"]["content"] == TEXT


@pytest.mark.asyncio
async def test_prompt_id_goes_before_the_text():
    body = {**BODY, "messages": [{"role": "user", "content": "something else"}]}
    call = ModelCall(body, 5.0, 1.0, 1.0, context={"prompt_id": "p-7"})
    assert (await ReplayedProvider(MODEL, RECORDING).complete(call)).usage.output_tokens == 34


@pytest.mark.asyncio
@pytest.mark.parametrize("asked", [False, True])
async def test_stream_adds_up_and_ends_with_usage(asked):
    body = {**BODY, "stream": True, "stream_options": {"include_usage": asked}}
    pieces = [p async for p in ReplayedProvider(MODEL, RECORDING).stream(call_of(body))]
    assert words_of([piece.data for piece in pieces if piece.data]) == TEXT
    assert pieces[-1].usage == Usage(12, 34, 1.5e-4)
    assert bool(pieces[-1].data) is asked
    assert orjson.loads(pieces[-2].data)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("context", "text", "words"),
    [
        ({}, "never seen", "this prompt"),
        ({"prompt_id": "p-8"}, "", "prompt_id 'p-8'"),
    ],
)
async def test_unknown_prompt_is_rejected_in_plain_words(context, text, words):
    body = {"messages": [{"role": "user", "content": text}]}
    with pytest.raises(ProviderError, match=words) as caught:
        await ReplayedProvider(MODEL, RECORDING).complete(ModelCall(body, 5.0, 1.0, 1.0, context))
    assert caught.value.status is AttemptStatus.REJECTED


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.REFUSE, AttemptStatus.CONNECT_ERROR),
        (Fault.TIMEOUT, AttemptStatus.TIMEOUT),
        (Fault.RATE_LIMITED, AttemptStatus.RATE_LIMITED),
        (Fault.SERVER_ERROR, AttemptStatus.SERVER_ERROR),
        (Fault.CUT, AttemptStatus.BAD_RESPONSE),
    ],
)
async def test_faults_switch_on_and_off_at_run_time(fault, status):
    plan = FaultPlan(random.Random(1))
    slept_s: list[float] = []

    async def sleep(duration_s: float) -> None:
        slept_s.append(duration_s)

    provider = ReplayedProvider(MODEL, RECORDING, faults=plan, sleep=sleep)
    plan.set("small", fault)
    with pytest.raises(ProviderError) as caught:
        await provider.complete(call_of())
    assert caught.value.status is status
    assert slept_s == ([5.0] if fault is Fault.TIMEOUT else [])
    plan.clear("small")
    await provider.complete(call_of())


@pytest.mark.asyncio
async def test_cut_stream_breaks_after_its_first_pieces():
    plan = FaultPlan(random.Random(1))
    plan.set("small", Fault.CUT)
    pieces = ReplayedProvider(MODEL, RECORDING, faults=plan).stream(call_of())
    assert (await anext(pieces)).data
    assert (await anext(pieces)).data
    with pytest.raises(ProviderError) as caught:
        await anext(pieces)
    assert caught.value.status is AttemptStatus.STREAM_BROKEN


def test_faults_come_with_their_probability():
    plan = FaultPlan(random.Random(3))
    plan.set("small", Fault.REFUSE, 0.2)
    hits = sum(plan.draw("small") is Fault.REFUSE for _ in range(10_000))
    assert abs(hits - 2000) < 5 * (10_000 * 0.2 * 0.8) ** 0.5
    assert plan.draw("other") is None
    with pytest.raises(ValueError, match=r"1\.5"):
        plan.set("small", Fault.REFUSE, 1.5)


@pytest.mark.asyncio
async def test_recorded_latency_is_waited_for_as_far_as_asked():
    slept_s: list[float] = []

    async def sleep(duration_s: float) -> None:
        slept_s.append(duration_s)

    await ReplayedProvider(MODEL, RECORDING, latency_scale=0.1, sleep=sleep).complete(call_of())
    assert slept_s == [pytest.approx(0.05)]
