"""Models in the order of their price: what hand-written rules mean by cheap, middle and strong."""

from __future__ import annotations

import numpy as np

from bandit_router.choice import one_hot
from bandit_router.policies.base import Context
from bandit_router.types import BoolArray, FloatArray

CHEAP, MIDDLE, STRONG = 0.0, 0.5, 1.0


def ladder(context: Context, eligible: BoolArray) -> list[int]:
    """The eligible arms, cheapest first as predicted for this request.

    Arms alike in price, as all are before anything is known of them, stay in their order: so
    models should be listed from cheap to dear.
    """
    arms = [int(k) for k in np.flatnonzero(eligible)]
    if context.cost_usd.size == 0:
        return arms
    return sorted(arms, key=lambda k: float(context.cost_usd[k]))


def rung_pmf(context: Context, eligible: BoolArray, height: float) -> FloatArray:
    """(K,) all mass on one rung: height 0 is the cheapest model, 1 the dearest; between two
    rungs the lower one."""
    arms = ladder(context, eligible)
    return one_hot(arms[int(height * (len(arms) - 1))], eligible.size)
