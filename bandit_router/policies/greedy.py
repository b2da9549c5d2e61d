"""Policies that put all their mass on one arm, and leave exploring to a rule or the floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bandit_router.choice import one_hot
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Beliefs, Context, Evidence, Policy, Rows
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray, IntArray


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
class Greedy:
    """What another policy believes to be best, with nothing tried: a request may ask for it.

    Not in the registry: it has no state of its own, and learns nothing by itself.
    """

    believer: Policy[Any]
    adaptive: ClassVar[bool] = False
    name: ClassVar[str] = "greedy"

    def beliefs(self, state: Any, z: FloatArray) -> Beliefs:
        return self.believer.beliefs(state, z)

    def belief_of(self, state: Any, z: FloatArray, arm: int) -> tuple[float, float]:
        return self.believer.belief_of(state, z, arm)

    def pmf(self, state: Any, context: Context, eligible: BoolArray) -> FloatArray:
        best = best_eligible(context.beliefs.mean - context.penalty, eligible)
        return one_hot(best, eligible.size)

    def init(self, arm_count: int, dimension: int) -> Any:
        return self.believer.init(arm_count, dimension)

    def spread(self, state: Any, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.believer.spread(state, z)

    def update(self, state: Any, evidence: Evidence) -> Any:
        return self.believer.update(state, evidence)

    def fade(self, state: Any, factor: float) -> Any:
        return self.believer.fade(state, factor)

    def refit(self, state: Any, rows: Rows, groups: FloatArray) -> Any:
        return self.believer.refit(state, rows, groups)

    def carried(self, state: Any, origin: IntArray, share: FloatArray) -> Any:
        return self.believer.carried(state, origin, share)

    def arrays(self, state: Any) -> Mapping[str, FloatArray]:
        return self.believer.arrays(state)

    def from_arrays(self, arrays: Mapping[str, FloatArray]) -> Any:
        return self.believer.from_arrays(arrays)


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
