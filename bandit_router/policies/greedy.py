"""Policies that put all their mass on one arm, and leave exploring to a rule or the floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandit_router.choice import one_hot
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray


def best_eligible(score: FloatArray, eligible: BoolArray) -> int:
    """Index of the eligible arm of the highest score; the first one where several tie."""
    return int(np.where(eligible, score, -np.inf).argmax())


@dataclass(frozen=True)
class EpsilonGreedy(LinearPolicy):
    """The best arm by expected utility, and with probability epsilon any eligible one."""

    epsilon: float = 0.1
    name: str = "epsilon_greedy"

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        best = best_eligible(context.beliefs.mean - context.penalty, eligible)
        uniform = np.asarray(eligible / eligible.sum())
        return np.asarray(
            (1.0 - self.epsilon) * one_hot(best, eligible.size) + self.epsilon * uniform
        )


@dataclass(frozen=True)
class LinUcb(LinearPolicy):
    """The arm of the highest upper confidence bound (Li et al. 2010)."""

    confidence: float = 1.0
    name: str = "linucb"

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        bound = context.beliefs.mean + self.confidence * context.beliefs.sd - context.penalty
        return one_hot(best_eligible(bound, eligible), eligible.size)


@dataclass(frozen=True)
class Fixed(LinearPolicy):
    """Always one model; where it is not eligible, the best of the others."""

    adaptive: ClassVar[bool] = False
    arm: int = 0
    name: str = "fixed"

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        if eligible[self.arm]:
            return one_hot(self.arm, eligible.size)
        best = best_eligible(context.beliefs.mean - context.penalty, eligible)
        return one_hot(best, eligible.size)


@dataclass(frozen=True)
class Random(LinearPolicy):
    """Any eligible model, all alike."""

    adaptive: ClassVar[bool] = False
    name: str = "random"

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        return np.asarray(eligible / eligible.sum())
