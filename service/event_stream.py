"""A model's stream handed on as server-sent events, and its outcome booked at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bandit_router.errors import ProviderError
from bandit_router.open_stream import ModelStream
from service.closing import Closing
from service.disconnect import end, first_of, watching
from service.errors import SHUTTING_DOWN, stream_problem

DONE = b"data: [DONE]\n\n"
# For the last words to a caller when the service stops.
LAST_WORDS_S = 2.0
log = logging.getLogger(__name__)


class EventStream(Response):
    """Sends every piece on as it comes; leaves the upstream when the caller leaves.

    A break after the first byte goes into the stream as an OpenAI error event, without
    [DONE] after it. A stream of named events (Responses) ends with its last event, not
    [DONE]. finished: called once, when the stream's outcome is final. farewell: one more chunk,
    made of the last one, before [DONE] of a stream that ended well. closing: ends a stream that
    is still under way, with an error event.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: ModelStream,
        finished: Callable[[ModelStream], None],
        *,
        headers: Mapping[str, str],
        within_s: float,
        closing: Closing,
        farewell: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(headers={**headers, "cache-control": "no-cache"})
        del self.headers["content-length"]
        self._stream = stream
        self._finished = finished
        self._within_s = within_s
        self._closing = closing
        self._begun = False
        self._farewell = farewell
        self._recording: _Recording | None = None

    def record(self, whole: Callable[[bytes], None], max_bytes: int) -> None:
        """Hand all that was sent to ``whole`` once the stream has ended well, unless it is more
        than max_bytes."""
        self._recording = _Recording(whole, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with watching(receive, self._closing) as gone:
                pump = asyncio.create_task(self._pump(send), name="stream")
                try:
                    # The time bound is for a caller who neither reads nor leaves.
                    async with asyncio.timeout(self._within_s):
                        await first_of(pump, gone)
                except TimeoutError:
                    log.warning("a stream of '%s' was not read in time", self._stream.model)
                finally:
                    over = pump.done() and not pump.cancelled()
                    await end(pump)
                if over:
                    pump.result()
                elif gone.cancelled():
                    await self._break_off(send)
        finally:
            await self._stream.aclose()
            self._finished(self._stream)

    async def _break_off(self, send: Send) -> None:
        """Say that the service stops, to a caller who is still there."""
        if not self._begun:
            return
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._body(send, event_of(SHUTTING_DOWN.event()))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.warning("a stream of '%s' could not be told of the end", self._stream.model)

    async def _pump(self, send: Send) -> None:
        self._begun = True
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        last, chunk = DONE, b""
        try:
            async for piece in self._stream:
                if piece.event:
                    last = b""
                    data = _with_model_inside(piece.data, self._stream.model)
                    await self._body(send, b"event: " + piece.event + b"\n" + event_of(data))
                elif piece.data:
                    chunk = _named(piece.data, self._stream.model)
                    await self._body(send, event_of(chunk))
            if self._farewell is not None and chunk:
                await self._body(send, event_of(self._farewell(chunk)))
        except ProviderError as error:
            last = event_of(stream_problem(error).event())
            self._recording = None
        if last:
            await self._body(send, last)
        if self._recording is not None:
            self._recording.end()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, send: Send, body: bytes) -> None:
        if self._recording is not None:
            self._recording.add(body)
        await send({"type": "http.response.body", "body": body, "more_body": True})


class _Recording:
    """What a stream has sent so far, as long as it is not too much."""

    def __init__(self, whole: Callable[[bytes], None], max_bytes: int) -> None:
        self._whole = whole
        self._left_bytes = max_bytes
        self._sent: list[bytes] = []

    def add(self, body: bytes) -> None:
        self._left_bytes -= len(body)
        if self._left_bytes >= 0:
            self._sent.append(body)
        else:
            self._sent.clear()

    def end(self) -> None:
        if self._left_bytes >= 0:
            self._whole(b"".join(self._sent))


def event_of(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"


def _named(data: bytes, model: str) -> bytes:
    """The chunk under the model's name here, on one line."""
    chunk = orjson.loads(data)
    chunk["model"] = model
    return orjson.dumps(chunk)


def _with_model_inside(data: bytes, model: str) -> bytes:
    """The event on one line, and the response in it under the model's name here."""
    event = orjson.loads(data)
    inside = event.get("response")
    # Some servers name it only at the end.
    if isinstance(inside, dict) and "model" in inside:
        inside["model"] = model
    return orjson.dumps(event)
