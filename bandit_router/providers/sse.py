"""Server-sent events from bytes that arrive cut anywhere."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 16 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event exceeds MAX_EVENT_BYTES; what sends it is not an event stream."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: data lines joined by newlines, and the event's name where it has one."""

    data: bytes
    name: bytes = b""


class EventParser:
    """Collects bytes and hands out whole events; lines end in LF or CRLF.

    Works on bytes, so a character cut in two by the network is whole again in its event.
    Source: the WHATWG HTML standard, 9.2.6, without reconnection fields.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._name = b""
        self._size_bytes = 0
        self._at_start = True

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that chunk completes. Raises EventTooLargeError."""
        buffer = self._rest + chunk
        if self._at_start and len(buffer) >= len(BYTE_ORDER_MARK):
            self._at_start = False
            buffer = buffer.removeprefix(BYTE_ORDER_MARK)
        lines = buffer.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) + self._size_bytes > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event exceeds {MAX_EVENT_BYTES} bytes")
        events = []
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                events.append(event)
        return events

    def finish(self) -> list[ServerSentEvent]:
        """What stands in the buffer at the end: many servers leave out the last empty line."""
        rest, self._rest = self._rest, b""
        events = [self._line(rest.removesuffix(b"\r")) if rest else None, self._line(b"")]
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            data, name = self._data, self._name
            self._data, self._name, self._size_bytes = [], b"", 0
            return ServerSentEvent(b"\n".join(data), name) if data else None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size_bytes += len(value)
            if self._size_bytes > MAX_EVENT_BYTES:
                raise EventTooLargeError(f"an event exceeds {MAX_EVENT_BYTES} bytes")
        elif field == b"event":
            self._name = value
        return None
