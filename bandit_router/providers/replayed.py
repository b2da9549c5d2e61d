"""Models that answer from a recorded outcome matrix, say so, and can be told to fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from bandit_router.config import ModelConfig
from bandit_router.errors import ProviderError
from bandit_router.protocols import Answer, ModelCall, StreamPiece, Usage
from bandit_router.types import AttemptStatus

PROMPT_ID = "prompt_id"
FINGERPRINT = "replayed"
PIECES_BEFORE_CUT = 2


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """What one model once made of one prompt; quality in [0, 1] as judged then."""

    quality: float
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """An outcome matrix. outcomes: prompt id → model → outcome. prompt_ids: text → id, for
    calls that carry no ``prompt_id`` in their metadata."""

    outcomes: Mapping[str, Mapping[str, RecordedOutcome]]
    prompt_ids: Mapping[str, str]


class Fault(StrEnum):
    """How a replayed model can be told to fail."""

    REFUSE = "refuse"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CUT = "cut"


class FaultPlan:
    """Which replayed models fail how, and how often; shared, and switched while running."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faults: dict[str, tuple[Fault, float]] = {}

    def set(self, model: str, fault: Fault, probability: float = 1.0) -> None:
        """Make a model fail from its next call on, with this probability in [0, 1]."""
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability {probability} of {fault} must lie in [0, 1]")
        self._faults[model] = (fault, probability)

    def clear(self, model: str) -> None:
        """Let a model answer again."""
        self._faults.pop(model, None)

    def draw(self, model: str) -> Fault | None:
        """The fault of this call, or None."""
        fault, probability = self._faults.get(model, (None, 0.0))
        if probability >= 1.0:
            return fault
        return fault if probability > 0.0 and self._rng.random() < probability else None


class ReplayedProvider:
    """Answers with the recorded tokens and cost of one model; the text says it is replayed.

    Finds the row by call.context["prompt_id"], else by the exact text of the last user
    message. latency_scale: how much of the recorded latency is really waited for.
    """

    def __init__(
        self,
        model: ModelConfig,
        recording: Recording,
        *,
        faults: FaultPlan | None = None,
        latency_scale: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model = model
        self._recording = recording
        self._faults = faults
        self._latency_scale = latency_scale
        self._sleep = sleep

    async def complete(self, call: ModelCall) -> Answer:
        fault = await self._fail_before_answer(call, call.timeout_s)
        if fault is Fault.CUT:
            raise self._failure("its answer was cut", AttemptStatus.BAD_RESPONSE)
        prompt_id, outcome = self._find(call)
        await self._wait(outcome)
        return Answer(
            body={
                **self._envelope(prompt_id, "chat.completion"),
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": self._words(prompt_id)},
                        "finish_reason": "stop",
                    }
                ],
                "usage": _usage_object(outcome),
            },
            usage=_usage(outcome),
        )

    async def stream(self, call: ModelCall) -> AsyncGenerator[StreamPiece, None]:
        fault = await self._fail_before_answer(call, call.first_token_timeout_s)
        prompt_id, outcome = self._find(call)
        await self._wait(outcome)
        words = self._words(prompt_id).split(" ")
        deltas = [{"role": "assistant", "content": words[0]}]
        deltas += [{"content": f" {word}"} for word in words[1:]]
        for count, delta in enumerate(deltas):
            if fault is Fault.CUT and count == PIECES_BEFORE_CUT:
                raise self._failure("its stream was cut", AttemptStatus.STREAM_BROKEN)
            yield self._chunk(prompt_id, [{"index": 0, "delta": delta, "finish_reason": None}])
        yield self._chunk(prompt_id, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
        options = call.body.get("stream_options")
        if isinstance(options, Mapping) and options.get("include_usage") is True:
            data = self._chunk(prompt_id, [], usage=_usage_object(outcome)).data
        else:
            data = b""
        yield StreamPiece(data=data, usage=_usage(outcome))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _fail_before_answer(self, call: ModelCall, patience_s: float) -> Fault | None:
        fault = self._faults.draw(self._model.name) if self._faults else None
        if fault is Fault.REFUSE:
            raise self._failure("connection refused", AttemptStatus.CONNECT_ERROR, retry=False)
        if fault is Fault.TIMEOUT:
            await self._sleep(min(patience_s, call.timeout_s))
            raise self._failure("no answer in time", AttemptStatus.TIMEOUT, retry=False)
        if fault is Fault.RATE_LIMITED:
            raise self._failure("too many requests", AttemptStatus.RATE_LIMITED, http_status=429)
        if fault is Fault.SERVER_ERROR:
            raise self._failure("server error", AttemptStatus.SERVER_ERROR, http_status=500)
        return fault

    def _find(self, call: ModelCall) -> tuple[str, RecordedOutcome]:
        prompt_id = call.context.get(PROMPT_ID)
        if prompt_id is None:
            prompt_id = self._recording.prompt_ids.get(_last_user_text(call.body))
        if prompt_id is None:
            raise self._unknown("this prompt; send a recorded prompt, or its prompt_id as metadata")
        row = self._recording.outcomes.get(prompt_id)
        if row is None:
            raise self._unknown(f"prompt_id '{prompt_id}'")
        outcome = row.get(self._model.served_as)
        if outcome is None:
            raise self._unknown(f"an answer of '{self._model.served_as}' to '{prompt_id}'")
        return prompt_id, outcome

    def _words(self, prompt_id: str) -> str:
        return f"[replayed answer of {self._model.name} to {prompt_id}]"

    async def _wait(self, outcome: RecordedOutcome) -> None:
        if self._latency_scale > 0.0 and outcome.latency_s:
            await self._sleep(outcome.latency_s * self._latency_scale)

    def _envelope(self, prompt_id: str, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-replayed-{prompt_id}",
            "object": kind,
            "created": 0,
            "model": self._model.served_as,
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(
        self,
        prompt_id: str,
        choices: list[dict[str, Any]],
        *,
        usage: dict[str, Any] | None = None,
    ) -> StreamPiece:
        body = {**self._envelope(prompt_id, "chat.completion.chunk"), "choices": choices}
        if usage is not None:
            body["usage"] = usage
        return StreamPiece(data=orjson.dumps(body))

    def _unknown(self, what: str) -> ProviderError:
        return self._failure(
            f"the recording does not have {what}", AttemptStatus.REJECTED, retry=False
        )

    def _failure(
        self,
        what: str,
        status: AttemptStatus,
        *,
        retry: bool = True,
        http_status: int | None = None,
    ) -> ProviderError:
        return ProviderError(
            f"replayed model '{self._model.name}': {what}",
            status=status,
            retry=retry,
            http_status=http_status,
        )


def _usage(outcome: RecordedOutcome) -> Usage:
    return Usage(outcome.input_tokens, outcome.output_tokens, outcome.cost_usd)


def _usage_object(outcome: RecordedOutcome) -> dict[str, Any]:
    """OpenAI's usage, with OpenRouter's ``cost`` where it is known."""
    input_tokens, output_tokens = outcome.input_tokens or 0, outcome.output_tokens or 0
    usage: dict[str, Any] = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    if outcome.cost_usd is not None:
        usage["cost"] = outcome.cost_usd
    return usage


def _last_user_text(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list | tuple) else ()):
        if isinstance(message, Mapping) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                return "".join(
                    str(part["text"])
                    for part in content
                    if isinstance(part, Mapping) and "text" in part
                )
    return ""
