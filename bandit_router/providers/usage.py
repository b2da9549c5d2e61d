"""What an upstream says it used, and how to make it say so while streaming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bandit_router.protocols import Usage


def usage_of(usage: object) -> Usage | None:
    """Usage from an OpenAI ``usage`` object, ``cost`` (OpenRouter's, in dollars) included.

    Responses say input and output where the older operations say prompt and completion.
    Counts that are not natural numbers, and costs that are not finite dollars, are unknown.
    """
    if not isinstance(usage, dict):
        return None
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        output_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cost_usd=_dollars(usage.get("cost")),
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _dollars(value: object) -> float | None:
    if type(value) not in (int, float):
        return None
    dollars = float(value)  # type: ignore[arg-type]
    return dollars if math.isfinite(dollars) and dollars >= 0 else None


def with_usage(body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The body with usage asked for, and whether the caller himself had asked."""
    options = body.get("stream_options")
    options = dict(options) if isinstance(options, Mapping) else {}
    asked = options.get("include_usage") is True
    return {**body, "stream": True, "stream_options": {**options, "include_usage": True}}, asked
