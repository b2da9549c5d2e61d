"""Models behind an OpenAI-compatible HTTP endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
import orjson

from bandit_router.config import ModelConfig
from bandit_router.errors import ConfigError, ProviderError
from bandit_router.protocols import Answer, Clock, ModelCall, StreamPiece
from bandit_router.providers.dialects import DIALECTS, Reading, StreamReader
from bandit_router.providers.endpoint import Connector, Endpoint, drain, read_body
from bandit_router.providers.failures import (
    failure_of_error_object,
    failure_of_exception,
    failure_of_status,
    timed_out,
)
from bandit_router.providers.sse import EventParser, EventTooLargeError, ServerSentEvent
from bandit_router.types import AttemptStatus

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
DONE = b"[DONE]"


def resolve_key(model: ModelConfig, environ: Mapping[str, str]) -> str | None:
    """The model's API key from the environment, or None where it needs none.

    Raises ConfigError naming model and variable; never shows the key.
    """
    if model.api_key_env is None:
        return None
    key = environ.get(model.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"model '{model.name}' takes its key from the environment variable "
            f"{model.api_key_env}, which is not set: export {model.api_key_env}=…, or drop "
            "api_key_env if the endpoint needs no key"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"model '{model.name}': the key in {model.api_key_env} has characters that an "
            "HTTP header cannot carry; copy it again"
        )
    return key


class OpenAICompatibleProvider:
    """Calls POST {base_url}/chat/completions and its sisters, whole or streamed.

    When streaming, usage is always asked for upstream (``dialects``). connector: builds the
    aiohttp connector inside the running loop.
    """

    def __init__(
        self,
        model: ModelConfig,
        *,
        api_key: str | None,
        clock: Clock,
        base_url: str | None = None,
        connector: Connector | None = None,
    ) -> None:
        url = base_url or model.base_url
        if not url:
            raise ConfigError(f"model '{model.name}' has no base_url")
        self._name = model.name
        self._clock = clock
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._endpoint = Endpoint(url.rstrip("/"), headers, connector)

    async def complete(self, call: ModelCall) -> Answer:
        """The whole answer within call.timeout_s."""
        dialect = DIALECTS[call.operation]
        payload = self._dump(call.body)
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._endpoint.post(
                    dialect.path, payload, accept="application/json", headers=call.headers
                )
                try:
                    await self._check_status(response)
                    raw = await read_body(response, MAX_ANSWER_BYTES)
                finally:
                    response.release()
        except (aiohttp.ClientError, OSError) as exception:
            raise self._failure(exception, "the answer", call.timeout_s) from exception
        if raw is None:
            raise self._bad(f"its answer exceeds {MAX_ANSWER_BYTES} bytes", retry=False)
        body = self._object(raw, AttemptStatus.BAD_RESPONSE)
        lacks = dialect.lacks(body)
        if lacks is not None:
            raise self._bad(f"its answer has no {lacks}")
        return Answer(body=body, usage=dialect.usage(body))

    async def stream(self, call: ModelCall) -> AsyncGenerator[StreamPiece, None]:
        """The answer piece by piece; the first within call.first_token_timeout_s.

        Raises ProviderError STREAM_BROKEN where the upstream closes without [DONE] and
        without having finished. Closing the iterator closes the connection.
        """
        dialect = DIALECTS[call.operation]
        body, reader = dialect.streaming(call.body)
        payload = self._dump(body)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + call.timeout_s
        limit_s, waited_for = min(call.first_token_timeout_s, call.timeout_s), "the first token"
        in_stream = finished = False
        held: list[StreamPiece] = []
        parser = EventParser()
        first_by = loop.time() + limit_s
        try:
            async with asyncio.timeout_at(first_by):
                response = await self._endpoint.post(
                    dialect.path, payload, accept="text/event-stream", headers=call.headers
                )
        except (aiohttp.ClientError, OSError) as exception:
            raise self._failure(exception, waited_for, limit_s) from exception
        try:
            async with asyncio.timeout_at(first_by):
                await self._check_status(response)
                await self._check_is_stream(response)
            read_by = first_by
            while True:
                async with asyncio.timeout_at(read_by):
                    chunk = await response.content.readany()
                events = parser.feed(chunk) if chunk else parser.finish()
                for event in events:
                    if event.data == DONE:
                        await drain(response)
                        return
                    reading = self._read(event, reader)
                    finished = finished or reading.finishes
                    held.append(reading.piece)
                    if reading.early:
                        continue
                    in_stream = True
                    for piece in held:
                        yield piece
                    held.clear()
                    if reading.ends:
                        await drain(response)
                        return
                if not chunk:
                    break
                if in_stream:
                    now_s = loop.time()
                    read_by = min(now_s + call.idle_timeout_s, ends_at)
                    limit_s, waited_for = read_by - now_s, "the next piece of the stream"
        except (aiohttp.ClientError, OSError) as exception:
            raise self._failure(exception, waited_for, limit_s, in_stream=True) from exception
        except EventTooLargeError as exception:
            raise self._broken(str(exception)) from exception
        finally:
            # Reuses the connection where the body is at its end, and closes it where not.
            response.release()
        if not finished:
            raise self._broken("the stream ended before its answer did")

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._endpoint.close()

    def _failure(
        self,
        exception: aiohttp.ClientError | OSError,
        waited_for: str,
        limit_s: float,
        *,
        in_stream: bool = False,
    ) -> ProviderError:
        # TimeoutError is an OSError; aiohttp's own means that the connection never stood.
        if isinstance(exception, TimeoutError) and not isinstance(exception, aiohttp.ClientError):
            return timed_out(self._name, waited_for, limit_s)
        return failure_of_exception(self._name, exception, in_stream=in_stream)

    def _dump(self, body: Mapping[str, Any]) -> bytes:
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as exception:
            raise ProviderError(
                f"the request cannot be written as JSON: {exception}",
                status=AttemptStatus.REJECTED,
                retry=False,
                next_model=False,
            ) from exception

    async def _check_status(self, response: aiohttp.ClientResponse) -> None:
        if 200 <= response.status < 300:
            return
        try:
            body = await read_body(response, MAX_ERROR_BYTES)
        except aiohttp.ClientError:
            # The status alone decides; an error page cut short must not change it.
            body = None
        raise failure_of_status(
            self._name, response.status, response.headers, body or b"", self._clock.now()
        )

    async def _check_is_stream(self, response: aiohttp.ClientResponse) -> None:
        if response.content_type != "application/json":
            return
        raw = await read_body(response, MAX_ERROR_BYTES)
        self._object(raw or b"{}", AttemptStatus.BAD_RESPONSE)
        raise self._bad("it answered a streaming request with a whole JSON body", retry=False)

    def _read(self, event: ServerSentEvent, reader: StreamReader) -> Reading:
        chunk = self._object(event.data, AttemptStatus.STREAM_BROKEN)
        if event.name == b"error":
            raise failure_of_error_object(self._name, chunk, otherwise=AttemptStatus.STREAM_BROKEN)
        reading = reader.read(event, chunk)
        if reading.error is not None:
            raise failure_of_error_object(
                self._name, reading.error, otherwise=AttemptStatus.STREAM_BROKEN
            )
        return reading

    def _object(self, raw: bytes, status: AttemptStatus) -> dict[str, Any]:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as exception:
            raise ProviderError(
                f"model '{self._name}': upstream sent broken JSON: {exception}",
                status=status,
                retry=True,
            ) from exception
        if not isinstance(body, dict):
            raise ProviderError(
                f"model '{self._name}': upstream sent {type(body).__name__}, not an object",
                status=status,
                retry=True,
            )
        if body.get("error"):
            raise failure_of_error_object(self._name, body["error"], otherwise=status)
        return body

    def _bad(self, what: str, *, retry: bool = True) -> ProviderError:
        return ProviderError(
            f"model '{self._name}': {what}", status=AttemptStatus.BAD_RESPONSE, retry=retry
        )

    def _broken(self, what: str) -> ProviderError:
        return ProviderError(
            f"model '{self._name}': {what}", status=AttemptStatus.STREAM_BROKEN, retry=True
        )
