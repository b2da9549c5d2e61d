"""Spend freely first, then save: the best model until half of the allowance is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.ladder import CHEAP, MIDDLE, STRONG, rung_pmf
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray


@dataclass(frozen=True)
class SessionBudget(LinearPolicy):
    """The dearest model until half of the allowance is spent, then the middle one, and the
    cheapest when it is used up.

    session_requests: the allowance, in budgets of one request. It fills up again by one with
    every request, so that a stream without end keeps to its mean budget as well. Without a
    budget the dearest model always.
    """

    session_requests: int = 100
    name: str = "session_budget"
    adaptive: ClassVar[bool] = False

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        used = context.debt_requests / self.session_requests
        height = STRONG if used < 0.5 else MIDDLE if used < 1.0 else CHEAP
        return rung_pmf(context, eligible, height)
