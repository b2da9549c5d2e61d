"""How each operation speaks: where it is asked, what an answer must have, how its stream goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from bandit_router.protocols import StreamPiece, Usage
from bandit_router.providers.sse import ServerSentEvent
from bandit_router.providers.usage import usage_of, with_usage
from bandit_router.types import Operation

# Events of a Responses stream that come before anything is written. They are held back until
# something is, since after the first piece no other model can take over.
BEFORE_THE_ANSWER = frozenset({"response.created", "response.queued", "response.in_progress"})
LAST_EVENTS = frozenset({"response.completed", "response.incomplete"})


@dataclass(frozen=True, slots=True)
class Reading:
    """One event as read. finishes: the answer is whole, though more may follow. ends: nothing
    follows. early: nothing is written yet. error: the error object inside, where there is one."""

    piece: StreamPiece
    finishes: bool = False
    ends: bool = False
    early: bool = False
    error: object = None


class StreamReader(Protocol):
    """Reads the events of one stream."""

    def read(self, event: ServerSentEvent, chunk: dict[str, Any]) -> Reading: ...


class ChunkReader:
    """Chat's and completions' streams: chunks with choices, then perhaps usage.

    keep_usage: the caller asked for usage too. Where he did not, the chunk that only carries
    usage becomes a piece with data b"", and ``"usage": null`` leaves the others.
    """

    def __init__(self, *, keep_usage: bool) -> None:
        self._keep_usage = keep_usage

    def read(self, event: ServerSentEvent, chunk: dict[str, Any]) -> Reading:
        usage = usage_of(chunk.get("usage"))
        choices = chunk.get("choices")
        data = event.data
        if not self._keep_usage and "usage" in chunk:
            if usage is not None and not choices:
                return Reading(StreamPiece(data=b"", usage=usage, content=False))
            if chunk["usage"] is None:
                del chunk["usage"]
                data = orjson.dumps(chunk)
        finishes = isinstance(choices, list) and any(
            isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
        )
        content = finishes or _has_content(choices)
        return Reading(StreamPiece(data=data, usage=usage, content=content), finishes=finishes)


def _has_content(choices: object) -> bool:
    """Whether a chunk says more than whose turn it is; of an unknown shape it is taken to."""
    if not isinstance(choices, list):
        return True
    for choice in choices:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if not isinstance(delta, dict):
            return True
        if any(value for name, value in delta.items() if name != "role"):
            return True
    return False


class ResponseReader:
    """Responses' streams: named events, of which the last carries the whole response."""

    def read(self, event: ServerSentEvent, chunk: dict[str, Any]) -> Reading:
        kind = chunk.get("type")
        response = chunk.get("response")
        response = response if isinstance(response, dict) else {}
        usage = usage_of(response.get("usage"))
        # Some servers leave the event line out, and clients of the real one look for it.
        name = event.name or (kind.encode() if isinstance(kind, str) else b"")
        reading = Reading(StreamPiece(data=event.data, usage=usage, event=name))
        if kind == "error":
            return replace(reading, error=chunk)
        if kind == "response.failed":
            return replace(reading, error=response.get("error") or chunk)
        if kind in BEFORE_THE_ANSWER:
            return replace(reading, early=True)
        over = kind in LAST_EVENTS
        return replace(reading, finishes=over, ends=over)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One operation. path: below base_url. lacks: what an answer has not that it must have,
    or None. usage: of an answer. streaming: the body that asks for a stream, and its reader.
    """

    path: str
    lacks: Callable[[Mapping[str, Any]], str | None]
    usage: Callable[[Mapping[str, Any]], Usage]
    streaming: Callable[[Mapping[str, Any]], tuple[dict[str, Any], StreamReader]]


def _no_choices(body: Mapping[str, Any]) -> str | None:
    choices = body.get("choices")
    fine = isinstance(choices, list) and choices and isinstance(choices[0], dict)
    return None if fine else "choices"


def _no_list(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda body: None if isinstance(body.get(name), list) else name


def _usage(body: Mapping[str, Any]) -> Usage:
    return usage_of(body.get("usage")) or Usage()


def _input_usage(body: Mapping[str, Any]) -> Usage:
    """Of embeddings, which write nothing and so do not count it."""
    return replace(_usage(body), output_tokens=0)


def _chunks(body: Mapping[str, Any]) -> tuple[dict[str, Any], StreamReader]:
    sent, keep_usage = with_usage(body)
    return sent, ChunkReader(keep_usage=keep_usage)


def _events(body: Mapping[str, Any]) -> tuple[dict[str, Any], StreamReader]:
    return {**body, "stream": True}, ResponseReader()


DIALECTS: Mapping[Operation, Dialect] = {
    Operation.CHAT: Dialect("/chat/completions", _no_choices, _usage, _chunks),
    Operation.COMPLETIONS: Dialect("/completions", _no_choices, _usage, _chunks),
    Operation.RESPONSES: Dialect("/responses", _no_list("output"), _usage, _events),
    # Embeddings do not stream; whoever asks gets what the upstream makes of it.
    Operation.EMBEDDINGS: Dialect("/embeddings", _no_list("data"), _input_usage, _chunks),
}
