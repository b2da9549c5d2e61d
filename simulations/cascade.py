"""A cascade on recorded outcomes: the cheap model answers, a check looks at the answer, and a
stronger model answers as well where the check is not content.

Both answers are paid for and the last one counts. That needs the outcomes of two models on one
and the same prompt, which only a full matrix has: a log of served traffic has one, and of a model
that was not asked nobody knows what its answer would have been worth.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from bandit_router.errors import DataError
from bandit_router.types import BoolArray, FloatArray, IntArray
from simulations.matrix import OutcomeMatrix

CASCADE = "cascade"
# The check sees what an answer is worth, give or take so much.
CHECK_SD = 0.2
# Without a budget an answer that seems worth less is asked for again.
PASSES_AT = 0.5
# Recent verdicts that the threshold is read from, and the answers that each model is tried for
# before the stronger one is settled on.
WINDOW = 300
TRIALS = 8


@dataclass(frozen=True, slots=True)
class CascadeTrace:
    """What one run did, request by request; all (n,). arm: whose answer counted. cost_usd: of
    both calls where there were two. escalated: whether there were."""

    arm: IntArray
    reward: FloatArray
    cost_usd: FloatArray
    escalated: BoolArray


class _Means:
    """What each model's answers were worth and cost so far."""

    def __init__(self, arm_count: int) -> None:
        self.count = np.zeros(arm_count)
        self._quality = np.zeros(arm_count)
        self._cost_usd = np.zeros(arm_count)

    def seen(self, arm: int, quality: float, cost_usd: float) -> None:
        self.count[arm] += 1.0
        self._quality[arm] += quality
        self._cost_usd[arm] += cost_usd

    @property
    def quality(self) -> FloatArray:
        return np.asarray(self._quality / np.maximum(self.count, 1.0))

    @property
    def cost_usd(self) -> FloatArray:
        return np.asarray(self._cost_usd / np.maximum(self.count, 1.0))

    def affordable(self, weak: int, budget_usd: float | None) -> FloatArray:
        """(K,) share of requests that each model could answer second within the budget."""
        if budget_usd is None:
            return np.ones(self.count.size)
        spare_usd = max(budget_usd - float(self.cost_usd[weak]), 0.0)
        return np.minimum(1.0, spare_usd / np.maximum(self.cost_usd, 1e-12))


def run_cascade(
    matrix: OutcomeMatrix,
    order: IntArray,
    budget_usd: float | None,
    rng: np.random.Generator,
    *,
    check_sd: float = CHECK_SD,
) -> CascadeTrace:
    """Cascade over the prompts of ``order``, learning which model is cheap and which is worth
    asking second, and how strict the check has to be for the budget.

    Raises DataError where no prompt has the outcomes of two models.
    """
    known = matrix.known
    if not (known[order].sum(axis=1) >= 2).any():
        raise DataError(
            "a cascade asks two models about one prompt, and no prompt has the outcomes of two: "
            "give a matrix with every model's outcome on every prompt"
        )
    # Models without a bill cost nothing here, as in every replay.
    cost_of = np.nan_to_num(matrix.cost_usd)
    means, verdicts = _Means(len(matrix.models)), deque[float](maxlen=WINDOW)
    arm = np.zeros(order.size, dtype=np.int64)
    reward, cost_usd = np.zeros(order.size), np.zeros(order.size)
    escalated = np.zeros(order.size, dtype=np.bool_)
    account_usd = 0.0
    for step, row in enumerate(order):
        usable = known[row]
        tried = np.where(usable, means.count, np.inf)
        # Models without trials look cheapest, and so get them.
        weak = int(np.where(usable, np.where(tried > 0.0, means.cost_usd, -1.0), np.inf).argmin())
        worth, dollars = float(matrix.quality[row, weak]), float(cost_of[row, weak])
        verdict = worth + check_sd * rng.normal()
        # A surplus or debt is worked off over as many requests as the threshold is read from.
        target_usd = None if budget_usd is None else budget_usd + account_usd / WINDOW
        strong, share = _second(means, weak, usable, target_usd)
        threshold = PASSES_AT
        if budget_usd is not None and verdicts:
            threshold = float(np.quantile(verdicts, share)) if share < 1.0 else np.inf
        verdicts.append(verdict)
        means.seen(weak, worth, dollars)
        arm[step] = weak
        if strong >= 0 and verdict < threshold:
            worth, second_usd = float(matrix.quality[row, strong]), float(cost_of[row, strong])
            means.seen(strong, worth, second_usd)
            dollars += second_usd
            arm[step], escalated[step] = strong, True
        reward[step], cost_usd[step] = worth, dollars
        account_usd += 0.0 if budget_usd is None else budget_usd - dollars
    return CascadeTrace(arm, reward, cost_usd, escalated)


def _second(
    means: _Means, weak: int, usable: BoolArray, budget_usd: float | None
) -> tuple[int, float]:
    """The model to ask where the check is not content, -1 for none, and the share of requests
    that the budget has for it: the one that gains most over all requests."""
    others = usable & (np.arange(usable.size) != weak)
    if not others.any():
        return -1, 0.0
    share = means.affordable(weak, budget_usd)
    untried = others & (means.count < TRIALS)
    if untried.any():
        first = int(untried.argmax())
        return first, float(share[first])
    gain = share * (means.quality - means.quality[weak])
    best = int(np.where(others, gain, -np.inf).argmax())
    return (best, float(share[best])) if gain[best] > 0.0 else (-1, 0.0)
