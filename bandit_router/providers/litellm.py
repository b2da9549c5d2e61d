"""Models of other providers' own protocols (Anthropic Messages, Bedrock, Gemini …) by litellm.

An extra, off by default: a call costs milliseconds of CPU that the direct provider does not.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from bandit_router.config import ModelConfig
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.protocols import Answer, Clock, ModelCall, StreamPiece
from bandit_router.providers.dialects import DIALECTS
from bandit_router.providers.failures import failure_of_status, timed_out
from bandit_router.providers.sse import ServerSentEvent
from bandit_router.types import AttemptStatus, Operation

PACKAGE = "litellm"
INSTALL = "pip install 'bandit-router[litellm]'"
# What is handed on. litellm takes addresses, keys and stand-in answers under other names, which
# must not come from a caller.
FIELDS = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("response_format", "temperature", "top_p", "n", "stop", "seed", "user"),
        *("max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "logprobs", "top_logprobs", "modalities", "prediction", "audio"),
        *("reasoning_effort", "verbosity", "thinking", "web_search_options", "service_tier"),
        *("stream", "stream_options", "metadata", "store"),
    }
)
# The exceptions whose meaning their status alone does not tell, and the code that does.
CODES: Mapping[str, str] = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
    # Another model may take the parameter that this one does not.
    "UnsupportedParamsError": "model_not_supported",
}
UNREACHABLE = frozenset({"APIConnectionError"})
LATE = frozenset({"Timeout", "APITimeoutError"})


def load_litellm(model: str) -> Any:
    """The package, made to keep to itself. Raises ConfigError where it is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(f"model '{model}' needs the package litellm: {INSTALL}")
    # Without this, importing it fetches a list of prices from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module: Any = importlib.import_module(PACKAGE)
    module.telemetry = False
    module.suppress_debug_info = True
    return module


class LitellmProvider:
    """Chat by ``litellm.acompletion``; ``upstream_model`` is litellm's name for the model, such
    as ``anthropic/claude-…``. base_url: of the provider, where it is not the usual one.

    Of a body the OpenAI fields are handed on, others are not.
    """

    def __init__(self, model: ModelConfig, *, api_key: str | None, clock: Clock) -> None:
        self._name = model.name
        self._clock = clock
        self._litellm = load_litellm(model.name)
        self._fixed: dict[str, Any] = {"num_retries": 0, "max_retries": 0}
        if api_key is not None:
            self._fixed["api_key"] = api_key
        if model.base_url is not None:
            self._fixed["base_url"] = model.base_url

    async def complete(self, call: ModelCall) -> Answer:
        """The whole answer within call.timeout_s."""
        try:
            async with asyncio.timeout(call.timeout_s):
                found = await self._ask(call.body, call)
        except TimeoutError as error:
            raise timed_out(self._name, "the answer", call.timeout_s) from error
        body = self._plain(found)
        dialect = DIALECTS[Operation.CHAT]
        lacks = dialect.lacks(body)
        if lacks is not None:
            raise self._failed(AttemptStatus.BAD_RESPONSE, f"its answer has no {lacks}")
        return Answer(body=body, usage=dialect.usage(body))

    async def stream(self, call: ModelCall) -> AsyncGenerator[StreamPiece, None]:
        """The answer piece by piece; the first within call.first_token_timeout_s."""
        body, reader = DIALECTS[Operation.CHAT].streaming(call.body)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + call.timeout_s
        limit_s, waited_for = min(call.first_token_timeout_s, call.timeout_s), "the first token"
        read_by = loop.time() + limit_s
        chunks: Any = None
        finished = False
        try:
            async with asyncio.timeout_at(read_by):
                chunks = await self._ask(body, call)
            pieces = aiter(chunks)
            while True:
                async with asyncio.timeout_at(read_by):
                    found = await self._next(pieces)
                if found is None:
                    break
                chunk = self._plain(found)
                reading = reader.read(ServerSentEvent(orjson.dumps(chunk)), chunk)
                finished = finished or reading.finishes
                yield reading.piece
                if reading.piece.content:
                    now_s = loop.time()
                    read_by = min(now_s + call.idle_timeout_s, ends_at)
                    limit_s, waited_for = read_by - now_s, "the next piece of the stream"
        except TimeoutError as error:
            raise timed_out(self._name, waited_for, limit_s) from error
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
        if not finished:
            raise self._failed(
                AttemptStatus.STREAM_BROKEN, "the stream ended before its answer did"
            )

    async def close(self) -> None:
        """litellm keeps its connections for the whole process."""

    async def _ask(self, body: Mapping[str, Any], call: ModelCall) -> Any:
        fields = {name: value for name, value in body.items() if name in FIELDS}
        try:
            return await self._litellm.acompletion(
                model=body["model"], **fields, **self._fixed, timeout=call.timeout_s
            )
        except TimeoutError:
            raise
        # What other packages raise from within a call has no common ancestor.
        except Exception as error:
            raise self._failure(error, in_stream=False) from error

    async def _next(self, pieces: Any) -> Any:
        try:
            return await anext(pieces, None)
        except TimeoutError:
            raise
        except Exception as error:
            raise self._failure(error, in_stream=True) from error

    def _failure(self, error: Exception, *, in_stream: bool) -> ProviderError:
        kind = type(error).__name__
        said = f"{kind}: {error}"[:500]
        if kind in LATE:
            return self._failed(AttemptStatus.TIMEOUT, said, retry=False)
        if kind in UNREACHABLE:
            return self._failed(AttemptStatus.CONNECT_ERROR, said, retry=False)
        status = getattr(error, "status_code", None)
        if in_stream or type(status) is not int or not 400 <= status < 600:
            broken = AttemptStatus.STREAM_BROKEN if in_stream else AttemptStatus.BAD_RESPONSE
            return self._failed(broken, said)
        code = CODES.get(kind) or getattr(error, "code", None)
        body = {"error": {"message": said, "type": "invalid_request_error", "code": code}}
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return failure_of_status(
            self._name, status, headers, orjson.dumps(body, default=str), self._clock.now()
        )

    def _failed(self, status: AttemptStatus, said: str, *, retry: bool = True) -> ProviderError:
        return ProviderError(f"model '{self._name}': {said}", status=status, retry=retry)

    def _plain(self, found: Any) -> dict[str, Any]:
        body = found.model_dump(mode="json", exclude_none=False)
        if not isinstance(body, dict):
            raise self._failed(AttemptStatus.BAD_RESPONSE, "litellm gave no object")
        return body
