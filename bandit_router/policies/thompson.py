"""Thompson sampling: each arm is chosen as often as it is believed to be the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.heads import HeadBank
from bandit_router.pmf import argmax_pmf
from bandit_router.policies.base import Context
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Thompson(LinearPolicy):
    """P(arm's sampled utility is the largest), integrated instead of sampled.

    sampling_scale: factor on the posterior sd; below one explores less than the posterior
    alone would. Source: Agrawal & Goyal 2013; with disjoint heads K scalars suffice.
    """

    sampling_scale: float = 1.0
    name: str = "thompson"

    def spread(self, state: HeadBank, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, K) mean and sd of the draws; covariances between weights are left out."""
        mean = z @ state.means.T
        diagonals = np.stack([np.diagonal(arm.covariance) for arm in state.arms])
        variance = np.maximum((z * z) @ diagonals.T, 0.0)
        return mean, self.sampling_scale * np.sqrt(variance)

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        utility = context.beliefs.mean - context.penalty
        sd = self.sampling_scale * context.beliefs.sd
        if eligible.all():
            return argmax_pmf(utility, sd)
        pmf = np.zeros(utility.size)
        pmf[eligible] = argmax_pmf(utility[eligible], sd[eligible])
        return pmf
