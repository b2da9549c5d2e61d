"""Linear heads as a policy's beliefs; concrete policies add only their pmf.

Policies that share this state can be swapped without losing what was learned, and even
``fixed`` and ``random`` keep beliefs, so that an operator can see what a learner would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Beliefs, Evidence, Rows
from bandit_router.posterior import Prior, mean_and_variance
from bandit_router.snapshot_arrays import bank_arrays, bank_from_arrays
from bandit_router.types import FloatArray, IntArray

# Before anything is known: rewards lie in [0, 1], so their mean is 0.5 give or take 0.5, one
# row is off by a third, and a feature of size one moves quality by a few hundredths.
COLD_BIAS = 0.5
COLD_BIAS_SD = 0.5
COLD_NOISE = 0.1
COLD_SCALE = 0.03
# The least noise variance that is believed: judged quality is never exact.
LEAST_NOISE = 1e-4


def cold_prior(dimension: int) -> Prior:
    """The prior on quality before any reward."""
    mean = np.zeros(dimension)
    mean[0] = COLD_BIAS
    precision = np.full(dimension, COLD_SCALE**-2)
    precision[0] = COLD_BIAS_SD**-2
    return Prior(mean=mean, precision=precision, noise=COLD_NOISE)


class LinearPolicy:
    """Everything of a policy with linear beliefs, except ``pmf`` and ``name``."""

    adaptive: ClassVar[bool] = True

    def init(self, arm_count: int, dimension: int) -> HeadBank:
        """Heads that have seen nothing."""
        return heads.empty_bank(cold_prior(dimension), arm_count)

    def beliefs(self, state: HeadBank, z: FloatArray) -> Beliefs:
        """Posterior mean and sd of zᵀθ_k for every arm."""
        return Beliefs(mean=state.means @ z, sd=np.sqrt(heads.variances(state, z)))

    def belief_of(self, state: HeadBank, z: FloatArray, arm: int) -> tuple[float, float]:
        """The same for one arm, without looking at the others."""
        mean, variance = mean_and_variance(state.arms[arm], z)
        return mean, math.sqrt(max(variance, 0.0))

    def spread(self, state: HeadBank, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, K) means, and no spread: greedy choices go by the mean."""
        mean = z @ state.means.T
        return mean, np.zeros_like(mean)

    def update(self, state: HeadBank, evidence: Evidence) -> HeadBank:
        """The heads after one reward arrives, is revised or retracted."""
        return heads.changed(
            state,
            evidence.arm,
            evidence.z,
            new=evidence.new,
            old=evidence.old,
            weight=evidence.weight,
            old_weight=evidence.weight_before,
        )

    def fade(self, state: HeadBank, factor: float) -> HeadBank:
        """The heads after all rows age by one step of forgetting."""
        return heads.faded(state, factor)

    def refit(self, state: HeadBank, rows: Rows, groups: FloatArray) -> HeadBank:
        """Heads from the rows anew, under the noise and scales that their evidence favours."""
        return heads.refitted(
            heads.sums_by_arm(rows.z, rows.arm, rows.value, rows.weight, len(state.arms)),
            groups,
            cold_prior(groups.size),
            bias_sd=COLD_BIAS_SD,
            least_noise=LEAST_NOISE,
        )

    def carried(self, state: HeadBank, origin: IntArray, share: FloatArray) -> HeadBank:
        """The heads of another list of arms; those that stay are untouched."""
        return heads.carried(state, origin, share)

    def arrays(self, state: HeadBank) -> Mapping[str, FloatArray]:
        """The state as named arrays."""
        return bank_arrays(state)

    def from_arrays(self, arrays: Mapping[str, FloatArray]) -> HeadBank:
        """The state back from its arrays, bit for bit."""
        return bank_from_arrays(arrays)
