"""The best model of those that answer in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandit_router.choice import one_hot
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.greedy import best_eligible
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Latency(LinearPolicy):
    """Of the models predicted to answer within ``target_s`` the best one by expected quality,
    whatever it costs; where none is, the fastest."""

    target_s: float = 2.0
    name: str = "latency"
    adaptive: ClassVar[bool] = True

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        latency_s = context.latency_s if context.latency_s.size else np.zeros(eligible.size)
        timely = eligible & (latency_s <= self.target_s)
        if timely.any():
            return one_hot(best_eligible(context.beliefs.mean, timely), eligible.size)
        return one_hot(best_eligible(-latency_s, eligible), eligible.size)
