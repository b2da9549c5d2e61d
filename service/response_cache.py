"""Whole answers kept for a while, in this process's memory, for requests that are the same.

Exact: a request is the same where its tenant, operation, body and wishes are, to the byte of
their canonical JSON. Kept are the answer and a hash of the request, never the request itself. A
hit asks no model, makes no decision and books nothing, so that nothing is learned twice.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from bandit_router.config import RouterConfig
from bandit_router.protocols import Clock
from bandit_router.types import Operation
from service.chat_request import ChatRequest
from service.decision_headers import answer_headers
from service.event_stream import EventStream
from service.wishes import FIELD

HEADER = "x-router-cache"
# Fields by which an answer hangs on what an upstream has stored, or stores something there.
STORED_UPSTREAM = ("previous_response_id", "conversation")
# Entries weigh more than their bytes: the key, the headers, the dictionary's own share.
ENTRY_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Kept:
    """One answer, as it was sent, and when on the monotonic clock it was kept."""

    body: bytes
    media_type: str
    model: str
    decision_id: str
    kept_at_s: float

    @property
    def size_bytes(self) -> int:
        return len(self.body) + ENTRY_OVERHEAD_BYTES


class ResponseCache:
    """Answers by request; the least recently used go first when there are too many."""

    def __init__(self, config: RouterConfig, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._size_bytes = 0
        self._generation = 0
        self.begin_anew(config)

    def begin_anew(self, config: RouterConfig) -> None:
        """Forget all: another configuration might have answered otherwise, or not at all."""
        self._config = config.cache
        # They stand in for better models: their answers are not to outlast the trouble.
        self._last_resorts = frozenset(model.name for model in config.last_resorts)
        self._kept.clear()
        self._size_bytes = 0
        self._generation += 1

    def place_of(self, chat: ChatRequest, body: Mapping[str, Any]) -> CachePlace:
        """Where the answer to a request is, or would be kept. body: as the caller sent it."""
        asked = chat.wishes.cache
        wanted = self._config.default if asked is None else asked
        # Why this model was chosen is told of a decision, and a hit has none.
        fit = wanted and not chat.wishes.metadata and not _is_stateful(chat, body)
        if not self._config.enabled or not fit:
            return CachePlace(self, None, self._generation, asked=asked is True)
        return CachePlace(self, _key(chat, body), self._generation, asked=True)

    def find(self, key: bytes) -> tuple[_Kept, float] | None:
        """The answer under a key and its age in seconds, unless there is none that is fresh."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age_s = self._clock.monotonic_s() - kept.kept_at_s
        if age_s >= self._config.ttl_s:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept, age_s

    def keep(self, key: bytes, generation: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep an answer, if it is not too large and was made under this configuration."""
        kept = _Kept(
            body=body,
            media_type=headers["content-type"],
            model=headers["x-router-model"],
            decision_id=headers["x-router-decision-id"],
            kept_at_s=self._clock.monotonic_s(),
        )
        if (
            generation != self._generation
            or len(body) > self._config.max_answer_bytes
            or kept.model in self._last_resorts
        ):
            return
        self._drop(key)
        self._kept[key] = kept
        self._size_bytes += kept.size_bytes
        while len(self._kept) > self._config.max_answers or (
            self._size_bytes > self._config.max_bytes
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size_bytes -= kept.size_bytes

    def recording_limit_bytes(self) -> int:
        """A stream that is longer is not kept, and need not be remembered to its end."""
        return self._config.max_answer_bytes


class CachePlace:
    """One request's place in the cache; without a key, the cache has no part in it."""

    def __init__(
        self, cache: ResponseCache, key: bytes | None, generation: int, *, asked: bool
    ) -> None:
        self._cache = cache
        self._key = key
        self._generation = generation
        self._asked = asked

    def answer(self, overhead_s: float) -> Response | None:
        """The answer that was kept, as it was sent; None where a model has to be asked.

        overhead_s: what the router took so far.
        """
        found = None if self._key is None else self._cache.find(self._key)
        if found is None:
            return None
        kept, age_s = found
        return Response(
            kept.body,
            headers={
                "content-type": kept.media_type,
                HEADER: "hit",
                "age": str(int(age_s)),
                "x-router-decision-id": kept.decision_id,
                **answer_headers(kept.model, 0, overhead_s),
                "x-router-cost-usd": "0.0",
            },
        )

    def watched(self, response: Response) -> Response:
        """The response on its way to the caller; its answer is kept once it is whole.

        Answers of a last resort and of a degraded mode are not kept.
        """
        if self._key is None:
            if self._asked:
                response.headers[HEADER] = "off"
            return response
        key, headers = self._key, response.headers
        headers[HEADER] = "miss"
        if response.status_code != 200 or "x-router-degraded" in headers:
            return response
        if isinstance(response, EventStream):
            response.record(
                lambda sent: self._cache.keep(key, self._generation, headers, sent),
                self._cache.recording_limit_bytes(),
            )
        else:
            self._cache.keep(key, self._generation, headers, bytes(response.body))
        return response


def _is_stateful(chat: ChatRequest, body: Mapping[str, Any]) -> bool:
    if body.get("store") is True:
        return True
    return chat.routing.operation is Operation.RESPONSES and any(
        body.get(name) is not None for name in STORED_UPSTREAM
    )


def _key(chat: ChatRequest, body: Mapping[str, Any]) -> bytes:
    """A hash of all that shapes the answer. A session only shapes who gives it."""
    wishes = chat.wishes.model_dump(mode="json", exclude={"cache", "metadata", "session_id"})
    asked = {name: value for name, value in body.items() if name != FIELD}
    parts = [chat.routing.tenant, chat.routing.operation.value, wishes, asked]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()
