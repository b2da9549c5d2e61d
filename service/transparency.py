"""Why this model: what X-Router-Metadata: enabled adds to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from bandit_router.types import Attempt, Decision
from service.answers import json_bytes
from service.route import shown_decision


def explanation(decision: Decision, attempts: Sequence[Attempt], **more: Any) -> dict[str, Any]:
    """The ``router`` object of an answer: the decision, and the calls that it led to."""
    return {
        **shown_decision(decision),
        "attempts": [
            {
                "model": attempt.model,
                "status": attempt.status.value,
                "latency_s": attempt.latency_s,
                "first_token_s": attempt.first_token_s,
                "http_status": attempt.http_status,
                "cost_usd": attempt.cost_usd,
            }
            for attempt in attempts
        ],
        **more,
    }


def explaining_chunk(last: bytes, router: dict[str, Any]) -> bytes:
    """A chunk of its own that carries the explanation; without choices, clients pass it over.

    last: the stream's latest chunk, whose id and model it shares.
    """
    chunk: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
    seen = orjson.loads(last) if last else {}
    chunk |= {name: seen[name] for name in chunk if name in seen}
    return json_bytes({**chunk, "choices": [], "router": router})
