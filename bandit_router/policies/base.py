"""What a policy is: pure functions over an immutable state, and what they are handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from bandit_router.types import BoolArray, FloatArray, IntArray

State = TypeVar("State")

_LEFT_OUT = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Mean and sd of every arm's expected quality for one request; both (K,).

    drawn_sd: (K,) of the draws that choices are made by, where a policy draws by another than
    its belief.
    """

    mean: FloatArray
    sd: FloatArray
    drawn_sd: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a policy knows of a request.

    z: (d,) coordinates. beliefs: the policy's own, for these coordinates.
    penalty: (K,) λ·cost + μ·latency as predicted, in units of quality.
    cost_usd, latency_s: (K,) as predicted. features: (n,) as extracted, and their names.
    debt_requests: dollars spent beyond the budget so far, in budgets of one request; negative
    while less was spent, 0 without a budget. What a caller leaves out is empty or 0.
    """

    z: FloatArray
    beliefs: Beliefs
    penalty: FloatArray
    cost_usd: FloatArray = field(default_factory=lambda: _LEFT_OUT)
    latency_s: FloatArray = field(default_factory=lambda: _LEFT_OUT)
    features: FloatArray = field(default_factory=lambda: _LEFT_OUT)
    feature_names: tuple[str, ...] = ()
    debt_requests: float = 0.0

    def feature(self, name: str) -> float:
        """One feature by its name; 0, which is typical, where the extractor has no such one."""
        if name not in self.feature_names:
            return 0.0
        return float(self.features[self.feature_names.index(name)])


@dataclass(frozen=True, slots=True)
class Evidence:
    """One change in what is known of an arm's quality at coordinates z.

    new, old: the reward now and before; None where there is or was none. weight: how much the
    row counts now, by the age of its decision and the precision of its signals. old_weight:
    how much ``old`` counted, where that differs.
    """

    arm: int
    z: FloatArray
    new: float | None
    old: float | None
    weight: float
    old_weight: float | None = None

    @property
    def weight_before(self) -> float:
        """How much ``old`` counted."""
        return self.weight if self.old_weight is None else self.old_weight


@dataclass(frozen=True, slots=True)
class Rows:
    """The log as arrays, for a fit from scratch.

    z: (N, d). arm: (N,). value: (N,). weight: (N,).
    """

    z: FloatArray
    arm: IntArray
    value: FloatArray
    weight: FloatArray


class Policy(Protocol[State]):
    """Chooses among eligible arms by probability.

    ``pmf`` returns (K,): non-negative, sums to one, zero outside ``eligible``. No function has
    a clock, a generator, or memory other than the state it is handed, which it leaves as it was.
    ``belief_of`` gives the mean and sd of one arm of ``beliefs``.
    ``spread`` gives, for (N, d) coordinates, the mean and sd (N, K) of the qualities that the
    policy in effect chooses by, for the pacer. ``adaptive`` says whether what is learned moves
    the choice: exploration is mixed into adaptive policies only, so that ``fixed`` means fixed.
    ``carried`` gives the state for another list of arms: origin (K',) is the old arm that each
    new one continues, -1 for none, and share (K',) by how much that arm's rows count on.
    ``arrays`` and ``from_arrays`` carry the state through a snapshot without loss.
    """

    @property
    def name(self) -> str: ...
    @property
    def adaptive(self) -> bool: ...
    def init(self, arm_count: int, dimension: int) -> State: ...
    def beliefs(self, state: State, z: FloatArray) -> Beliefs: ...
    def belief_of(self, state: State, z: FloatArray, arm: int) -> tuple[float, float]: ...
    def spread(self, state: State, z: FloatArray) -> tuple[FloatArray, FloatArray]: ...
    def pmf(self, state: State, context: Context, eligible: BoolArray) -> FloatArray: ...
    def update(self, state: State, evidence: Evidence) -> State: ...
    def fade(self, state: State, factor: float) -> State: ...
    def refit(self, state: State, rows: Rows, groups: FloatArray) -> State: ...
    def carried(self, state: State, origin: IntArray, share: FloatArray) -> State: ...
    def arrays(self, state: State) -> Mapping[str, FloatArray]: ...
    def from_arrays(self, arrays: Mapping[str, FloatArray]) -> State: ...


@runtime_checkable
class InBlocks(Policy[State], Protocol[State]):
    """What a policy may offer besides: many requests at once, all on the same state.

    Each function gives what its counterpart for one request gives, up to rounding, and a pmf up
    to its own error. z: (N, d).
    ``beliefs_of_rows`` and ``pmf_of_rows`` give (N, K); ``predicted`` the mean and sd (N,) of
    each row's own arm; ``update_rows`` the state after rows that are all new.
    """

    def beliefs_of_rows(self, state: State, z: FloatArray) -> Beliefs: ...
    def pmf_of_rows(
        self, beliefs: Beliefs, penalty: FloatArray, eligible: BoolArray
    ) -> FloatArray: ...
    def predicted(
        self, state: State, z: FloatArray, arm: IntArray
    ) -> tuple[FloatArray, FloatArray]: ...
    def update_rows(self, state: State, rows: Rows) -> State: ...


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the configuration says of a policy, with model names turned into indices.

    fixed_arm: index of ``policy.model``, or -1. sampling_scale: factor on the posterior sd.
    neighbours: of ``knn``. latency_target_s: of ``latency``. session_requests: of
    ``session_budget``.
    """

    fixed_arm: int = -1
    epsilon: float = 0.1
    sampling_scale: float = 1.0
    confidence: float = 1.0
    neighbours: int = 20
    latency_target_s: float = 2.0
    session_requests: int = 100
