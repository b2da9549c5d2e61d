"""Thompson sampling: each arm is chosen as often as it is believed to be the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.pmf import argmax_pmf, argmax_pmf_of_rows
from bandit_router.policies.base import Beliefs, Context, Rows
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray, IntArray

# Share of the posterior sd along context directions that choices are drawn with. The level of
# every arm is drawn in full.
CONTEXT_SHARE = 0.25


@dataclass(frozen=True)
class Thompson(LinearPolicy):
    """P(arm's sampled utility is the largest), integrated instead of sampled.

    The level of an arm (the bias weight) is drawn from its whole posterior; of the weights on
    the context only ``context_share`` of the posterior sd is used: requests differ enough by
    themselves to reveal those weights, and drawing d of them for every request would mostly
    mix at random. Source: Agrawal & Goyal 2013; with disjoint heads K scalars suffice; Bastani,
    Bayati & Khosravi 2021 on contexts that explore by themselves.
    sampling_scale: factor on the whole sd.
    """

    sampling_scale: float = 1.0
    context_share: float = CONTEXT_SHARE
    name: str = "thompson"

    def beliefs(self, state: HeadBank, z: FloatArray) -> Beliefs:
        """Posterior mean and sd of zᵀθ_k, and the sd that choices are drawn by."""
        sd, drawn = heads.sds_and_draws(state, z, self.context_share)
        if self.sampling_scale != 1.0:
            drawn = self.sampling_scale * drawn
        return Beliefs(state.means.dot(z), sd, drawn)

    def spread(self, state: HeadBank, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, K) mean and sd of the draws; covariances between weights are left out."""
        mean = z @ state.means.T
        diagonals = np.stack([np.diagonal(arm.covariance) for arm in state.arms])
        drawn = z * self.context_share
        drawn[:, 0] = z[:, 0]
        variance = np.maximum((drawn * drawn) @ diagonals.T, 0.0)
        return mean, self.sampling_scale * np.sqrt(variance)

    def beliefs_of_rows(self, state: HeadBank, z: FloatArray) -> Beliefs:
        """``beliefs`` of many requests, (N, K)."""
        sd, drawn = heads.rows_of_sds_and_draws(state, z, self.context_share)
        return Beliefs(z @ state.means.T, sd, self.sampling_scale * drawn)

    def pmf_of_rows(self, beliefs: Beliefs, penalty: FloatArray, eligible: BoolArray) -> FloatArray:
        """``pmf`` of many requests, (N, K)."""
        sd = beliefs.sd if beliefs.drawn_sd is None else beliefs.drawn_sd
        return argmax_pmf_of_rows(beliefs.mean - penalty, sd, eligible)

    def predicted(
        self, state: HeadBank, z: FloatArray, arm: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """``belief_of`` each row's own arm, (N,)."""
        return heads.predicted(state, z, arm)

    def update_rows(self, state: HeadBank, rows: Rows) -> HeadBank:
        """The heads after many rewards arrive."""
        return heads.with_new_rows(state, rows.z, rows.arm, rows.value, rows.weight)

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        utility = context.beliefs.mean - context.penalty
        beliefs = context.beliefs
        sd = beliefs.sd if beliefs.drawn_sd is None else beliefs.drawn_sd
        if eligible.all():
            return argmax_pmf(utility, sd)
        pmf = np.zeros(utility.size)
        pmf[eligible] = argmax_pmf(utility[eligible], sd[eligible])
        return pmf
