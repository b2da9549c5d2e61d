"""What a call costs, and how many tokens a request is before anyone has counted them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bandit_router.config import ModelConfig
from bandit_router.protocols import Usage
from bandit_router.request_text import messages_of

BYTES_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 4
TOKENS_PER_REPLY_PRIMER = 3
# A picture of 1024 × 1024 at OpenAI's high detail; the true figure depends on its size.
TOKENS_PER_IMAGE = 765
SECONDS_PER_HOUR = 3600.0
# Room kept for the answer where the caller does not say how long it may be.
DEFAULT_OUTPUT_TOKENS = 256


def cost_of(model: ModelConfig, usage: Usage, latency_s: float) -> float | None:
    """Dollars of one call: what the upstream says it charged, or else tokens × list price.

    A model with usd_per_hour adds its running cost for latency_s. None where a token count
    that has a price is unknown.
    """
    running_usd = model.usd_per_hour * latency_s / SECONDS_PER_HOUR
    if usage.cost_usd is not None:
        return usage.cost_usd + running_usd
    tokens_usd = 0.0
    for tokens, usd_per_million in (
        (usage.input_tokens, model.input_usd_per_million),
        (usage.output_tokens, model.output_usd_per_million),
    ):
        if usd_per_million == 0.0:
            continue
        if tokens is None:
            return None
        tokens_usd += tokens * usd_per_million / 1e6
    return tokens_usd + running_usd


def most_usd(model: ModelConfig, input_tokens: int, output_tokens: int) -> float:
    """Dollars of a call of so many tokens at list prices."""
    prices = model.input_usd_per_million, model.output_usd_per_million
    return (input_tokens * prices[0] + output_tokens * prices[1]) / 1e6


def estimate_input_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """Tokens of OpenAI chat messages at four bytes of UTF-8 each, never less than one.

    Bytes, not characters: scripts outside ASCII take more tokens a character. Odd content
    (numbers, nested lists) counts by its text and never raises.
    """
    size_bytes = 0
    tokens = TOKENS_PER_REPLY_PRIMER
    for message in messages:
        tokens += TOKENS_PER_MESSAGE
        for key, value in message.items():
            if key == "role":
                continue
            if isinstance(value, str):
                size_bytes += _size_bytes(value)
            elif key == "content" and isinstance(value, list):
                for part in value:
                    if isinstance(part, Mapping) and "image_url" in part:
                        tokens += TOKENS_PER_IMAGE
                    else:
                        size_bytes += _part_bytes(part)
            elif value is not None:
                size_bytes += _size_bytes(str(value))
    return max(1, tokens + math.ceil(size_bytes / BYTES_PER_TOKEN))


def most_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a request's body and of the answer that it leaves room for, estimated."""
    limits = (body.get(n) for n in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    room = next((n for n in limits if type(n) is int and n > 0), DEFAULT_OUTPUT_TOKENS)
    return estimate_input_tokens(messages_of(body)) + room


def _part_bytes(part: object) -> int:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return _size_bytes(part["text"])
    return _size_bytes(str(part))


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", errors="replace"))
