"""What is learned, what it is learned for, and the log's rows as arrays that it is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router import effort
from bandit_router.alarms import Watch
from bandit_router.basis import Basis
from bandit_router.effort import EffortState, Prices
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.pacing import PacerState
from bandit_router.protocols import FeatureBlock
from bandit_router.types import BoolArray, FloatArray, IntArray, Tier


@dataclass(frozen=True, slots=True)
class Problem:
    """What is configured and not learned. Arrays are (K,) in the order of ``arms``.

    routable: whether the policy may ever choose the arm. extractor_version: of the features;
    "" where there is only one. predecessors: per arm, the name of the model that it is a new
    version of, or ""; empty where no arm is one. tiers: per arm, what its model card says, a
    first guess; empty where none says anything. prior: outcomes recorded elsewhere.
    half_life_decisions: age at which a row counts half, None to remember everything; where
    learns_half_life is set, only until a fit has chosen another.
    """

    arms: tuple[str, ...]
    feature_names: tuple[str, ...]
    feature_blocks: tuple[FeatureBlock, ...]
    prices: Prices
    routable: BoolArray
    budget_usd: float | None = None
    value_of_second: float = 0.0
    half_life_decisions: float | None = None
    learns_half_life: bool = False
    extractor_version: str = ""
    predecessors: tuple[str, ...] = ()
    tiers: tuple[Tier | None, ...] = ()
    prior: OutcomePrior | None = None

    @property
    def typical_amount(self) -> FloatArray:
        """(K,) the amount expected of an arm never called."""
        return np.where(self.prices.metered > 0.0, effort.COLD_TOKENS, effort.COLD_DOLLARS)


@dataclass(frozen=True, slots=True)
class LearnedState:
    """Everything learned. policy: the policy's own state. clock: the decision_seq that
    weights are counted from. since: decisions before this decision_seq are past learning from:
    the last fit did not reach back to them. pulls, rewards: (K,) calls and live rewards per arm.
    watch: the alarms, and what earlier rows still count after them. half_life_decisions: age at
    which a row counts half; None remembers everything.
    """

    basis: Basis
    policy: Any
    effort: EffortState
    pacer: PacerState
    clock: int
    since: int
    pulls: FloatArray
    rewards: FloatArray
    watch: Watch
    half_life_decisions: float | None = None

    def weight(self, decision_seq: int, clock: int) -> float:
        """How much a row of decision ``decision_seq`` counts when the clock shows ``clock``."""
        return aged(decision_seq, clock, self.half_life_decisions)


def aged(decision_seq: int, clock: int, half_life_decisions: float | None) -> float:
    """How much a row of decision ``decision_seq`` counts when the clock shows ``clock``."""
    if half_life_decisions is None:
        return 1.0
    return float(0.5 ** ((clock - decision_seq) / half_life_decisions))


def rows_aged(decision_seq: IntArray, clock: int, half_life_decisions: float | None) -> FloatArray:
    """The same for many rows."""
    if half_life_decisions is None:
        return np.ones(decision_seq.size)
    return np.asarray(0.5 ** ((clock - decision_seq) / half_life_decisions))


@dataclass(frozen=True, slots=True)
class LogRows:
    """The log as arrays, one entry per decision. NaN where nothing is known.

    features: (N, n). arm: (N,) the arm that answered. decision_seq: (N,).
    input_tokens, output_tokens, reward, cost_usd, latency_s: (N,). reward_weight: (N,) how
    precise each reward is, beside the most precise kind; None where all are alike. inherited:
    rows of predecessors, under the arms that are new versions of them. first_token_s: (N,) of
    streams; None where no answer was streamed.
    """

    features: FloatArray
    arm: IntArray
    decision_seq: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    reward: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    reward_weight: FloatArray | None = None
    inherited: LogRows | None = None
    first_token_s: FloatArray | None = None
