"""A model whose every call is a span, by the conventions for generative AI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.errors import ProviderError
from bandit_router.prices import cost_of
from bandit_router.protocols import Answer, Clock, ModelCall, Provider, StreamPiece, Usage
from bandit_router.types import AttemptStatus, Operation
from service.tracing.spans import Tracing, fail

OPERATION_NAMES = {
    Operation.CHAT: "chat",
    Operation.RESPONSES: "chat",
    Operation.COMPLETIONS: "text_completion",
    Operation.EMBEDDINGS: "embeddings",
}
# The conventions' names of providers, by the end of their host's name. Others are named by how
# they are called.
PROVIDER_NAMES = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
# The chain's own clock began a little earlier, and loops round their timers.
EARLY_S = 0.05
# Numbers that a caller may set; nothing else of a body is told.
REQUEST_NUMBERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
}


class TracedProvider:
    """Calls a provider within a span, and shows the upstream which one.

    clock: for the time to the first piece, and what a call by the hour costs.
    """

    def __init__(self, inner: Provider, model: ModelConfig, tracing: Tracing, clock: Clock) -> None:
        self._inner = inner
        self._model = model
        self._tracing = tracing
        self._clock = clock
        self._about: dict[str, AttributeValue] = {
            "gen_ai.provider.name": provider_name(model),
            "bandit_router.model": model.name,
            **_server(model),
        }

    async def complete(self, call: ModelCall) -> Answer:
        attempt, call = self._begin(call, stream=False)
        try:
            answer = await self._inner.complete(call)
        except BaseException as error:
            attempt.fail(error, call.timeout_s)
            raise
        attempt.see_body(answer.body)
        attempt.end(answer.usage)
        return answer

    async def stream(self, call: ModelCall) -> AsyncGenerator[StreamPiece, None]:
        attempt, call = self._begin(call, stream=True)
        usage: Usage | None = None
        pieces = self._inner.stream(call)
        try:
            async for piece in pieces:
                attempt.see_piece(piece)
                usage = piece.usage or usage
                yield piece
        except GeneratorExit:
            attempt.leave(usage)
            raise
        except BaseException as error:
            attempt.fail(error, call.first_token_timeout_s)
            raise
        else:
            attempt.end(usage)
        finally:
            # Provider.stream promises an iterator; generators also have a connection to close.
            aclose = getattr(pieces, "aclose", None)
            if aclose is not None:
                await aclose()

    async def close(self) -> None:
        await self._inner.close()

    def _begin(self, call: ModelCall, *, stream: bool) -> tuple[_Attempt, ModelCall]:
        operation, asked = OPERATION_NAMES[call.operation], str(call.body.get("model", ""))
        local = self._model.provider is not ProviderKind.OPENAI_COMPATIBLE
        attributes: dict[str, AttributeValue] = {
            **self._about,
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": asked,
            **_numbers(call.body),
        }
        if stream:
            attributes["gen_ai.request.stream"] = True
        span, headers = self._tracing.attempt(
            f"{operation} {asked}", SpanKind.INTERNAL if local else SpanKind.CLIENT, attributes
        )
        begun = _Attempt(span, self._model, self._clock)
        return begun, replace(call, headers={**call.headers, **headers})


class _Attempt:
    """One call under way; the first of end, leave and fail ends its span."""

    def __init__(self, span: Span, model: ModelConfig, clock: Clock) -> None:
        self._span = span
        self._model = model
        self._clock = clock
        self._begun_s = clock.monotonic_s()
        self._first_piece = False
        self._reasons: list[str] = []

    def see_body(self, body: Mapping[str, Any]) -> None:
        """Note what an answer, or a piece of one, says about itself."""
        for key, attribute in (("id", "gen_ai.response.id"), ("model", "gen_ai.response.model")):
            if isinstance(body.get(key), str):
                self._span.set_attribute(attribute, body[key])
        self._reasons += finish_reasons(body)

    def see_piece(self, piece: StreamPiece) -> None:
        """Note one piece of a stream."""
        if piece.content and not self._first_piece:
            self._first_piece = True
            waited_s = self._clock.monotonic_s() - self._begun_s
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", waited_s)
        if piece.data and self._span.is_recording():
            body = orjson.loads(piece.data)
            # An event of the Responses API carries the response so far.
            self.see_body(body.get("response", body) if piece.event else body)

    def end(self, usage: Usage | None) -> None:
        """The model answered to the end."""
        self._say(AttemptStatus.OK, usage)

    def leave(self, usage: Usage | None) -> None:
        """Whoever read the answer went away, or had read enough."""
        self._say(AttemptStatus.CANCELLED, usage)

    def fail(self, error: BaseException, patience_s: float) -> None:
        """The call ended without an answer. patience_s: a call that was cancelled after it, with
        nothing heard, was given up by the chain; else by the caller."""
        if isinstance(error, asyncio.CancelledError):
            waited_s = self._clock.monotonic_s() - self._begun_s
            late = not self._first_piece and waited_s >= patience_s - EARLY_S
            status = AttemptStatus.TIMEOUT if late else AttemptStatus.CANCELLED
            if late:
                fail(self._span, status.value)
            self._say(status, None)
        elif isinstance(error, ProviderError):
            fail(self._span, error.status.value)
            if error.http_status is not None:
                self._span.set_attribute("http.response.status_code", error.http_status)
            self._say(error.status, None)
        else:
            timed_out = isinstance(error, TimeoutError)
            fail(self._span, AttemptStatus.TIMEOUT.value if timed_out else type(error).__name__)
            self._span.end()

    def _say(self, status: AttemptStatus, usage: Usage | None) -> None:
        span = self._span
        span.set_attribute("bandit_router.status", status.value)
        if self._reasons:
            span.set_attribute("gen_ai.response.finish_reasons", tuple(self._reasons))
        if usage is not None:
            cost_usd = cost_of(self._model, usage, self._clock.monotonic_s() - self._begun_s)
            for name, value in (
                ("gen_ai.usage.input_tokens", usage.input_tokens),
                ("gen_ai.usage.output_tokens", usage.output_tokens),
                ("bandit_router.cost_usd", cost_usd),
            ):
                if value is not None:
                    span.set_attribute(name, value)
        span.end()


def provider_name(model: ModelConfig) -> str:
    """The conventions' name of who serves a model, or else how it is called."""
    if model.provider is ProviderKind.OPENAI_COMPATIBLE:
        host = urlsplit(model.base_url or "").hostname or ""
        for end, name in PROVIDER_NAMES.items():
            if host == end or host.endswith(f".{end}"):
                return name
    return model.provider.value


def finish_reasons(body: Mapping[str, Any]) -> list[str]:
    """Why a model stopped, per choice, as an OpenAI body of any operation tells it."""
    choices = body.get("choices")
    if isinstance(choices, list):
        found = (choice.get("finish_reason") for choice in choices if isinstance(choice, Mapping))
        return [reason for reason in found if isinstance(reason, str)]
    if body.get("object") == "response" and body.get("status") in ("completed", "incomplete"):
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        return [reason if isinstance(reason, str) else str(body["status"])]
    return []


def _server(model: ModelConfig) -> dict[str, AttributeValue]:
    if model.provider is not ProviderKind.OPENAI_COMPATIBLE:
        return {}
    parts = urlsplit(model.base_url or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def _numbers(body: Mapping[str, Any]) -> dict[str, AttributeValue]:
    return {
        attribute: body[key]
        for key, attribute in REQUEST_NUMBERS.items()
        if isinstance(body.get(key), int | float) and not isinstance(body[key], bool)
    }
