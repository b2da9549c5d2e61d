"""Conversations that stay with the model that began them, across all replicas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from bandit_router.config import ModelConfig
from bandit_router.config_steering import SessionsConfig
from bandit_router.eligibility import is_weaker
from bandit_router.protocols import Clock
from bandit_router.store.session_log import SessionLog, SessionState
from bandit_router.types import Mode, Pin, RoutingRequest

LONGEST_ID = 256


class Sessions:
    """Pins a request to its session's model, as the decision log has it."""

    def __init__(
        self,
        config: SessionsConfig,
        log: SessionLog,
        models: Mapping[str, ModelConfig],
        clock: Clock,
    ) -> None:
        self._config = config
        self._log = log
        self._models = models
        self._clock = clock

    def follow(self, config: SessionsConfig) -> None:
        """Bind requests from now on by another configuration."""
        self._config = config

    async def pinned(self, request: RoutingRequest) -> RoutingRequest:
        """The request, bound to its session's model if it has a live one.

        Raises StoreError, or StoreUnavailable without a database.
        """
        session_id = request.session_id
        bound = request.override is not None or request.pin is not None
        if session_id is None or bound or not self._config.sticky:
            return request
        alive_since = self._clock.now() - timedelta(seconds=self._config.idle_s)
        found = await self._log.latest(request.tenant, session_id, alive_since)
        if found is None:
            return request
        return replace(
            request,
            pin=Pin(self._model_of(found), Mode.STICKY),
            influences={**request.influences, "session": session_id},
        )

    def _model_of(self, state: SessionState) -> str:
        """The model to stay with: an answer by a stronger one than was chosen moves it up."""
        chosen, answered = self._models.get(state.chosen), self._models.get(state.answered_by or "")
        if chosen is not None and answered is not None and is_weaker(chosen, answered):
            return answered.name
        return state.chosen


def session_id_of(
    config: SessionsConfig, explicit: str | None, body: Mapping[str, Any]
) -> str | None:
    """The id of a request's session, from the first source that has one.

    explicit: what x-session-id or the router object says.
    """
    for source in config.sources:
        found: object = None
        if source == "header":
            found = explicit
        elif source == "user":
            found = body.get("user")
        elif source == "first_messages":
            found = _beginning(body.get("messages"))
        else:
            labels = body.get("metadata")
            name = source.removeprefix("metadata.")
            found = labels.get(name) if isinstance(labels, dict) else None
        if isinstance(found, str) and 1 <= len(found) <= LONGEST_ID:
            return found
    return explicit


def _beginning(messages: object) -> str | None:
    """A hash of all messages before the first answer: the same on every turn."""
    if not isinstance(messages, list):
        return None
    first = []
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "assistant":
            break
        first.append(message)
    # Of several messages in a row by the user only the first is sure to have been there before.
    asked = [k for k, m in enumerate(first) if isinstance(m, dict) and m.get("role") == "user"]
    if asked:
        first = first[: asked[0] + 1]
    return "first:" + hashlib.sha256(orjson.dumps(first)).hexdigest()[:32] if first else None
