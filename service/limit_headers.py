"""How much is left of a caller's limits, in the headers that OpenAI's clients know."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bandit_router.limits import Headroom


def limit_headers(headroom: Iterable[Headroom]) -> dict[str, str]:
    """``x-ratelimit-limit-…``, ``-remaining-…`` and ``-reset-…`` for requests and tokens."""
    told: dict[str, str] = {}
    for room in headroom:
        told[f"x-ratelimit-limit-{room.what}"] = str(int(room.most))
        told[f"x-ratelimit-remaining-{room.what}"] = str(max(0, int(room.left)))
        told[f"x-ratelimit-reset-{room.what}"] = duration(room.resets_in_s)
    return told


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, as OpenAI writes them: ``1s``, ``6m0s``, ``2h0m0s``."""
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
