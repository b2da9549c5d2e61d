"""A hand-written score of difficulty from length, wording and caller: cheap, middle or strong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.ladder import CHEAP, MIDDLE, STRONG, rung_pmf
from bandit_router.policies.linear import LinearPolicy
from bandit_router.policies.user_tier import tier_of
from bandit_router.types import BoolArray, FloatArray

CHEAP_BELOW = 0.2
STRONG_ABOVE = 0.8
# As such rules are written by hand: nothing here was fitted to data.
BASE = -1.2
WEIGHTS = {
    "user_length": 0.8,
    "turns": 0.3,
    "code": 0.8,
    "math_symbols": 0.4,
    "reasoning": 1.2,
    "step_by_step": 1.0,
    "asks_to_write": 0.5,
    "asks_to_explain": 0.3,
    "asks_to_transform": -0.5,
    "brief_answer": -0.8,
    "tools": 0.5,
}
TIER_WEIGHT = 1.0


@dataclass(frozen=True)
class Heuristic(LinearPolicy):
    """The cheapest model for a score below 0.2, the dearest above 0.8, one between otherwise."""

    name: str = "heuristic"
    adaptive: ClassVar[bool] = False

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        score = difficulty(context)
        height = CHEAP if score < CHEAP_BELOW else STRONG if score > STRONG_ABOVE else MIDDLE
        return rung_pmf(context, eligible, height)


def difficulty(context: Context) -> float:
    """Within (0, 1): how hard the request looks. A follow-up counts by its turns."""
    total = BASE + sum(weight * context.feature(name) for name, weight in WEIGHTS.items())
    tier = tier_of(context)
    if tier is not None:
        total += TIER_WEIGHT * (tier - MIDDLE) * 2.0
    return 1.0 / (1.0 + math.exp(-total))
