"""Logistic regression of how often each model falls short, and a fixed threshold on it.

The usual two-stage router: a request is complex when the cheap model is likely to answer it
badly; complex requests go to the strong model. Rewards are read as chances of a good answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import expit

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Beliefs, Context, Evidence, Rows
from bandit_router.policies.ladder import CHEAP, STRONG, ladder, rung_pmf
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray, IntArray

COMPLEX_ABOVE = 0.7
# Prior precision of every weight but the bias, as for standardised features.
RIDGE = 1.0
STEPS = 25


@dataclass(frozen=True, slots=True)
class Classified:
    """Linear beliefs, for the pacer and reports, and (K, d) logistic weights of falling short."""

    bank: HeadBank
    weights: FloatArray


@dataclass(frozen=True)
class Classifier:
    """The dearest model where P(the cheapest one falls short) > 0.7, else the cheapest.

    The regression is fitted at each refit, as such classifiers are; nothing moves in between.
    """

    name: str = "classifier"
    adaptive: ClassVar[bool] = True

    def init(self, arm_count: int, dimension: int) -> Classified:
        """Even chances for every request."""
        return Classified(_LINEAR.init(arm_count, dimension), np.zeros((arm_count, dimension)))

    def beliefs(self, state: Classified, z: FloatArray) -> Beliefs:
        """Linear beliefs on quality."""
        return _LINEAR.beliefs(state.bank, z)

    def belief_of(self, state: Classified, z: FloatArray, arm: int) -> tuple[float, float]:
        """The same for one arm."""
        return _LINEAR.belief_of(state.bank, z, arm)

    def spread(self, state: Classified, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, K) means, and no spread."""
        return _LINEAR.spread(state.bank, z)

    def pmf(self, state: Classified, context: Context, eligible: BoolArray) -> FloatArray:
        cheapest = ladder(context, eligible)[0]
        falls_short = float(expit(state.weights[cheapest] @ context.z))
        return rung_pmf(context, eligible, STRONG if falls_short > COMPLEX_ABOVE else CHEAP)

    def update(self, state: Classified, evidence: Evidence) -> Classified:
        """Beliefs move, the regression waits for the refit."""
        return replace(state, bank=_LINEAR.update(state.bank, evidence))

    def fade(self, state: Classified, factor: float) -> Classified:
        """Beliefs age."""
        return replace(state, bank=heads.faded(state.bank, factor))

    def refit(self, state: Classified, rows: Rows, groups: FloatArray) -> Classified:
        """Beliefs and regression from the rows anew."""
        weights = [
            logistic_weights(
                rows.z[rows.arm == k], 1.0 - rows.value[rows.arm == k], rows.weight[rows.arm == k]
            )
            for k in range(len(state.bank.arms))
        ]
        return Classified(_LINEAR.refit(state.bank, rows, groups), np.stack(weights))

    def carried(self, state: Classified, origin: IntArray, share: FloatArray) -> Classified:
        """Beliefs and weights of another list of arms; a new one falls short at even chances."""
        weights = np.where((origin >= 0)[:, None], state.weights[origin], 0.0)
        return Classified(heads.carried(state.bank, origin, share), weights)

    def arrays(self, state: Classified) -> Mapping[str, FloatArray]:
        """The state as named arrays."""
        return {**_LINEAR.arrays(state.bank), "logistic": state.weights}

    def from_arrays(self, arrays: Mapping[str, FloatArray]) -> Classified:
        """The state back, bit for bit."""
        bank = {name: array for name, array in arrays.items() if name != "logistic"}
        return Classified(_LINEAR.from_arrays(bank), arrays["logistic"])


def logistic_weights(z: FloatArray, target: FloatArray, weight: FloatArray) -> FloatArray:
    """(d,) weights of P = expit(zᵀw), by Newton's method under a ridge; zeros without rows.

    target: (N,) within [0, 1], soft labels. weight: (N,). z: (N, d), the bias first.
    """
    weights = np.zeros(z.shape[1])
    precision = np.full(z.shape[1], RIDGE)
    # The bias is held by as little as keeps separable data finite.
    precision[0] = 1e-3 * RIDGE
    if target.size == 0:
        return weights
    for _ in range(STEPS):
        chance = expit(z @ weights)
        slope = z.T @ (weight * (target - chance)) - precision * weights
        curvature = (z * (weight * chance * (1.0 - chance))[:, None]).T @ z + np.diag(precision)
        step = np.linalg.solve(curvature, slope)
        # A bounded step: from afar Newton's can overshoot.
        weights = weights + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return weights


_LINEAR = LinearPolicy()
