"""Asking a model for its tokens' probabilities where the caller has not, and hiding them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bandit_router.protocols import StreamPiece
from bandit_router.types import Operation

# What each operation calls it; Responses tell none unless the caller includes them.
ASKED_BY: Mapping[Operation, object] = {Operation.CHAT: True, Operation.COMPLETIONS: 1}


def asking_for_confidence(operation: Operation, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with log-probabilities asked for; the same object where nothing is to be added."""
    if body.get("logprobs") or operation not in ASKED_BY:
        return body
    return {**body, "logprobs": ASKED_BY[operation]}


def hide_confidence(body: dict[str, Any]) -> None:
    """Leave the log-probabilities of an answer or of a chunk out, in place."""
    for choice in body.get("choices") or ():
        if isinstance(choice, dict) and "logprobs" in choice:
            choice["logprobs"] = None


def without_confidence(piece: StreamPiece) -> StreamPiece:
    """One piece of a stream without its log-probabilities."""
    if b'"logprobs"' not in piece.data:
        return piece
    chunk = json.loads(piece.data)
    hide_confidence(chunk)
    return replace(piece, data=json.dumps(chunk).encode())
