"""What of a request the extractors read: bounded text and exact counts, whatever was sent.

A request may carry ten megabytes, null content, numbers or parts of unknown kinds. This module
is the one place that copes with that; the extractors see clean, short strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bandit_router.types import RoutingRequest

USER_TEXT_LIMIT = 4096
SYSTEM_TEXT_LIMIT = 512
MESSAGE_LIMIT = 4096
PART_LIMIT = 256

_SYSTEM_ROLES = ("system", "developer")
_IMAGE_KINDS = ("image_url", "image", "input_image")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request's prompt, cut to what extractors may read.

    user_text: the last user message, at most USER_TEXT_LIMIT characters. system_text: the first
    system message, at most SYSTEM_TEXT_LIMIT. The counts are of the whole, uncut request, but
    for messages after MESSAGE_LIMIT and content parts after PART_LIMIT.
    """

    user_text: str
    system_text: str
    total_chars: int
    user_chars: int
    system_chars: int
    message_count: int
    image_count: int


@dataclass(frozen=True, slots=True)
class _Content:
    texts: tuple[str, ...]
    char_count: int
    image_count: int


def window(text: str, limit: int) -> str:
    """The head and the tail of a text, half the limit each; short texts come back whole.

    Instructions stand at the beginning or the end of a long prompt; its middle is material.
    """
    if len(text) <= limit:
        return text
    head = limit // 2
    return text[:head] + text[len(text) - (limit - head) :]


def read_prompt(request: RoutingRequest) -> Prompt:
    """Read a request's messages within bounds; odd content counts as empty, nothing raises."""
    user = system = _Content((), 0, 0)
    total_chars = image_count = 0
    messages: Sequence[Any] = request.messages
    for message in islice(messages, MESSAGE_LIMIT):
        if not isinstance(message, Mapping):
            continue
        content = _read_content(message.get("content"))
        total_chars += content.char_count
        image_count += content.image_count
        role = message.get("role")
        if role == "user":
            user = content
        elif role in _SYSTEM_ROLES and not system.texts:
            system = content
    if not user.texts and messages and isinstance(messages[-1], Mapping):
        # A request without user text (a tool's answer, an assistant's prefix) is judged by
        # the last thing said.
        user = _read_content(messages[-1].get("content"))
    return Prompt(
        user_text=_join(user.texts, USER_TEXT_LIMIT),
        system_text=_join(system.texts, SYSTEM_TEXT_LIMIT),
        total_chars=total_chars,
        user_chars=user.char_count,
        system_chars=system.char_count,
        message_count=len(messages),
        image_count=image_count,
    )


def _read_content(content: Any) -> _Content:
    if isinstance(content, str):
        return _Content((content,) if content else (), len(content), 0)
    if isinstance(content, Mapping):
        parts: Sequence[Any] = (content,)
    elif isinstance(content, list | tuple):
        parts = content
    else:
        return _Content((), 0, 0)
    texts: list[str] = []
    image_count = 0
    for part in islice(parts, PART_LIMIT):
        text = part
        if isinstance(part, Mapping):
            text = part.get("text")
            if part.get("type") in _IMAGE_KINDS:
                image_count += 1
        if isinstance(text, str) and text:
            texts.append(text)
    return _Content(tuple(texts), sum(map(len, texts)), image_count)


def _join(texts: tuple[str, ...], limit: int) -> str:
    # Each text is cut before joining, so that no long copy is ever made.
    return window("\n".join(window(text, limit) for text in texts), limit)
