"""The mean reward of the nearest past requests, per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandit_router.choice import one_hot
from bandit_router.policies.base import Beliefs, Context, Evidence, Rows
from bandit_router.policies.greedy import best_eligible
from bandit_router.policies.linear import COLD_BIAS, COLD_BIAS_SD
from bandit_router.types import BoolArray, FloatArray, IntArray

# Past requests kept, newest first to stay: a vote over more changes little and costs time.
MOST_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Past rewards, oldest first. z: (N, d). arm: (N,). reward, weight: (N,)."""

    arm_count: int
    z: FloatArray
    arm: IntArray
    reward: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Knn:
    """Greedy by the rewards of each arm's ``neighbours`` nearest requests.

    One more reward of 0.5 stands for the prior. The sd is that of a mean of as many rewards.
    """

    neighbours: int = 20
    name: str = "knn"
    adaptive: ClassVar[bool] = True

    def init(self, arm_count: int, dimension: int) -> Memory:
        """No memories."""
        nothing = np.zeros(0)
        return Memory(
            arm_count=arm_count,
            z=np.zeros((0, dimension)),
            arm=np.zeros(0, dtype=np.int64),
            reward=nothing,
            weight=nothing,
        )

    def beliefs(self, state: Memory, z: FloatArray) -> Beliefs:
        """Weighted mean reward of each arm's nearest requests."""
        mean, sd = self._beliefs(state, z[None, :])
        return Beliefs(mean=mean[0], sd=sd[0])

    def belief_of(self, state: Memory, z: FloatArray, arm: int) -> tuple[float, float]:
        """The same for one arm."""
        beliefs = self.beliefs(state, z)
        return float(beliefs.mean[arm]), float(beliefs.sd[arm])

    def spread(self, state: Memory, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, K) means, and no spread: greedy choices go by the mean."""
        mean, _ = self._beliefs(state, z)
        return mean, np.zeros_like(mean)

    def pmf(self, state: Memory, context: Context, eligible: BoolArray) -> FloatArray:
        best = best_eligible(context.beliefs.mean - context.penalty, eligible)
        return one_hot(best, eligible.size)

    def update(self, state: Memory, evidence: Evidence) -> Memory:
        """The memory with a reward added, replaced or forgotten.

        A reward that is no longer kept, for age, can neither be replaced nor forgotten.
        """
        place = None if evidence.old is None else _place(state, evidence)
        if place is not None and evidence.new is not None:
            reward = state.reward.copy()
            weight = state.weight.copy()
            reward[place], weight[place] = evidence.new, evidence.weight
            return Memory(state.arm_count, state.z, state.arm, reward, weight)
        if place is not None:
            return _rows(state, np.arange(state.arm.size) != place)
        if evidence.old is not None or evidence.new is None:
            return state
        start = max(state.arm.size + 1 - MOST_ROWS, 0)
        return Memory(
            arm_count=state.arm_count,
            z=np.concatenate([state.z[start:], evidence.z[None, :]]),
            arm=np.append(state.arm[start:], evidence.arm),
            reward=np.append(state.reward[start:], evidence.new),
            weight=np.append(state.weight[start:], evidence.weight),
        )

    def fade(self, state: Memory, factor: float) -> Memory:
        """Every memory counts less beside the prior and those to come."""
        return Memory(state.arm_count, state.z, state.arm, state.reward, state.weight * factor)

    def refit(self, state: Memory, rows: Rows, groups: FloatArray) -> Memory:
        """The newest rows, in their new coordinates."""
        start = max(rows.arm.size - MOST_ROWS, 0)
        return Memory(
            arm_count=state.arm_count,
            z=rows.z[start:].copy(),
            arm=rows.arm[start:].copy(),
            reward=rows.value[start:].copy(),
            weight=rows.weight[start:].copy(),
        )

    def carried(self, state: Memory, origin: IntArray, share: FloatArray) -> Memory:
        """The memories of the arms that stay or are inherited from, in their order."""
        place = np.concatenate([np.flatnonzero(state.arm == k) for k in origin])
        arm = np.concatenate(
            [np.full(int((state.arm == k).sum()), i) for i, k in enumerate(origin)]
        )
        order = np.argsort(place, kind="stable")
        place, arm = place[order], arm[order]
        return Memory(
            arm_count=origin.size,
            z=state.z[place],
            arm=arm.astype(np.int64),
            reward=state.reward[place],
            weight=state.weight[place] * share[arm],
        )

    def arrays(self, state: Memory) -> Mapping[str, FloatArray]:
        """The memories as named arrays."""
        return {
            "arm_count": np.array([float(state.arm_count)]),
            "z": state.z,
            "arm": state.arm.astype(np.float64),
            "reward": state.reward,
            "weight": state.weight,
        }

    def from_arrays(self, arrays: Mapping[str, FloatArray]) -> Memory:
        """The memories back."""
        return Memory(
            arm_count=int(arrays["arm_count"][0]),
            z=arrays["z"],
            arm=arrays["arm"].astype(np.int64),
            reward=arrays["reward"],
            weight=arrays["weight"],
        )

    def _beliefs(self, state: Memory, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        count = z.shape[0]
        mean = np.full((count, state.arm_count), COLD_BIAS)
        weight = np.ones((count, state.arm_count))
        for k in range(state.arm_count):
            of_arm = np.flatnonzero(state.arm == k)
            if of_arm.size == 0:
                continue
            kept = state.z[of_arm]
            # Squared distance without (N, M, d) in memory; the request's own square is the same
            # for all and left out.
            distance = (kept * kept).sum(axis=1) - 2.0 * (z @ kept.T)
            nearest = np.argsort(distance, axis=1, kind="stable")[:, : self.neighbours]
            votes = state.weight[of_arm][nearest]
            rewards = state.reward[of_arm][nearest]
            weight[:, k] = 1.0 + votes.sum(axis=1)
            mean[:, k] = (COLD_BIAS + (votes * rewards).sum(axis=1)) / weight[:, k]
        return mean, COLD_BIAS_SD / np.sqrt(weight)


def _place(state: Memory, evidence: Evidence) -> int | None:
    """Where the memory of an earlier reward stands."""
    same = (state.arm == evidence.arm) & (state.reward == evidence.old)
    places = np.flatnonzero(same)
    for place in places[::-1]:
        if np.array_equal(state.z[place], evidence.z):
            return int(place)
    return None


def _rows(state: Memory, kept: BoolArray) -> Memory:
    return Memory(
        state.arm_count, state.z[kept], state.arm[kept], state.reward[kept], state.weight[kept]
    )
