"""Find λ, the price of a dollar in quality, from a budget in dollars per request.

The fluid problem on recent contexts: the least λ at which choosing argmax q − λc for each of
them costs no more than the target. The target is the budget, corrected so that a surplus or
debt is worked off over a stated number of requests. Expected, not realised, cost drives λ;
realised cost enters through the account alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from scipy.special import ndtri

from bandit_router.types import FloatArray

WINDOW = 320
# Requests over which a surplus or debt is worked off.
HORIZON = 100.0
# A debt is paid back out of at most half the budget: the frontier is concave, so that a long
# time a little below it costs less than a short time at its cheapest end.
LEAST_TARGET = 0.5
# A surplus or debt of so many requests' budgets moves the price of a dollar e-fold at most, or of
# one percent of all budgets so far where that is more: what an operator sees is the bill's share.
PATIENCE = 50.0
PATIENCE_SHARE = 0.01
# The price that the budget alone asks for is that of the last so large a share of requests, once
# these are more than the window: it may hold more hard requests than usual by mere chance, and
# the best price is one and the same for all.
STEADY_SHARE = 0.2
# No request counts as past for either once so many came after it.
MEMORY = 50_000
SOLVE_EVERY = 8
# Until so many requests are paid for, λ is solved after each: the first bills say the most.
SOLVE_ALWAYS_UNTIL = 64
_BISECTIONS = 14
# Irrational steps of a Weyl sequence: even, reproducible stand-ins for random draws.
_PRIMES = [n for n in range(2, 230) if all(n % k for k in range(2, int(n**0.5) + 1))]
_WEYL = np.sqrt(np.array(_PRIMES, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class PacerState:
    """window: coordinates (d,) of recent requests, newest last; window_tokens: their input.

    account_usd: budget so far minus dollars so far; negative is debt. price_of_dollar: λ.
    paid: requests paid for. steady: what the budget alone asks for, averaged; None before λ
    was first solved since anything changed.
    """

    window: tuple[FloatArray, ...]
    window_tokens: tuple[float, ...]
    account_usd: float
    price_of_dollar: float
    paid: int
    steady: Steady | None = None


@dataclass(frozen=True, slots=True)
class Steady:
    """A price averaged in logarithms. since, at: requests paid for when the average began, and
    when it was last added to."""

    price: float
    since: int
    at: int


def empty_pacer() -> PacerState:
    """A pacer that has seen nothing and forbids nothing."""
    return PacerState(window=(), window_tokens=(), account_usd=0.0, price_of_dollar=0.0, paid=0)


def after_payment(
    pacer: PacerState,
    z: FloatArray,
    input_tokens: float,
    cost_usd: float,
    budget_usd: float | None,
) -> PacerState:
    """The pacer after one request at coordinates z was paid for; λ is not solved anew here.

    Without a budget (None) the window is kept for reports, and the account stays at zero. While
    the budget does not bind, so that λ is zero, debts are paid off and no surplus is stored.
    """
    account_usd = pacer.account_usd
    if budget_usd is not None:
        account_usd = _settled(pacer, account_usd, pacer.paid, cost_usd, budget_usd)
    return PacerState(
        window=pacer.window[-(WINDOW - 1) :] + (z,),  # noqa: RUF005  one copy less
        window_tokens=pacer.window_tokens[-(WINDOW - 1) :] + (input_tokens,),  # noqa: RUF005
        account_usd=account_usd,
        price_of_dollar=pacer.price_of_dollar,
        paid=pacer.paid + 1,
        steady=pacer.steady,
    )


def after_payments(
    pacer: PacerState,
    z: FloatArray,
    input_tokens: FloatArray,
    cost_usd: FloatArray,
    budget_usd: float | None,
) -> PacerState:
    """``after_payment`` of many requests one after the other. z: (N, d), the others (N,)."""
    account_usd, paid = pacer.account_usd, pacer.paid
    if budget_usd is not None:
        for dollars in cost_usd.tolist():
            account_usd = _settled(pacer, account_usd, paid, dollars, budget_usd)
            paid += 1
    kept = max(WINDOW - z.shape[0], 0)
    start = len(pacer.window) - min(kept, len(pacer.window))
    return PacerState(
        window=(*pacer.window[start:], *z[-WINDOW:]),
        window_tokens=(*pacer.window_tokens[start:], *input_tokens[-WINDOW:].tolist()),
        account_usd=account_usd,
        price_of_dollar=pacer.price_of_dollar,
        paid=pacer.paid + cost_usd.size,
        steady=pacer.steady,
    )


def _settled(
    pacer: PacerState, account_usd: float, paid: int, cost_usd: float, budget_usd: float
) -> float:
    """The account after one payment, the ``paid``-th but one."""
    settled = account_usd + budget_usd - cost_usd
    if paid and pacer.price_of_dollar == 0.0:
        # What nobody had to save is not owed to later requests. Before the first payment λ
        # has not been solved and says nothing.
        settled = min(settled, max(account_usd, 0.0))
    return settled


def after_waste(pacer: PacerState, cost_usd: float | None, budget_usd: float | None) -> PacerState:
    """The pacer after a call was paid for that answered nothing: its dollars are owed."""
    if cost_usd is None or budget_usd is None:
        return pacer
    return replace(pacer, account_usd=pacer.account_usd - cost_usd)


def without_surplus(pacer: PacerState) -> PacerState:
    """The pacer after a cost has changed: what was left over under other prices is not owed to
    later requests. Debts stay."""
    return replace(unsteadied(pacer), account_usd=min(pacer.account_usd, 0.0))


def unsteadied(pacer: PacerState) -> PacerState:
    """The pacer after models or what they are worth have changed: earlier prices say nothing."""
    return replace(pacer, steady=None)


def due(pacer: PacerState, paid: int) -> bool:
    """Whether λ is to be solved anew, after the payments since ``paid`` requests were paid for."""
    return pacer.paid <= SOLVE_ALWAYS_UNTIL or pacer.paid // SOLVE_EVERY > paid // SOLVE_EVERY


def target_usd(pacer: PacerState, budget_usd: float) -> float:
    """What the next requests may cost on average, surplus and debt included."""
    return max(budget_usd + pacer.account_usd / HORIZON, LEAST_TARGET * budget_usd)


@lru_cache(maxsize=2 * SOLVE_ALWAYS_UNTIL)
def standard_normals(rows: int, arms: int) -> FloatArray:
    """(rows, arms) fixed, evenly spread stand-ins for normal draws; read-only."""
    steps = _WEYL[np.arange(arms) % _WEYL.size] * (1.0 + np.arange(arms) // _WEYL.size)
    points = np.outer(np.arange(1, rows + 1), steps) % 1.0
    drawn = np.asarray(ndtri(np.clip(points, 1e-6, 1.0 - 1e-6)))
    drawn.setflags(write=False)
    return drawn


def solved(
    pacer: PacerState, quality: FloatArray, cost_usd: FloatArray, budget_usd: float
) -> PacerState:
    """The pacer with λ solved for the window. quality, cost_usd: (N, K), as now believed.

    quality should be drawn from the beliefs rather than their means, so that the frontier
    that λ is read from is the one that a randomised policy walks on.
    """
    count, arms = quality.shape
    starts, costs = np.arange(0, count * arms, arms), cost_usd.ravel()

    # Both searches below begin at the same prices.
    @cache
    def mean_cost(price: float) -> float:
        utility = price * cost_usd
        np.subtract(quality, utility, out=utility)
        chosen = utility.argmax(axis=1)
        chosen += starts
        return float(np.add.reduce(costs.take(chosen)) / count)

    dearest = cost_usd.max(axis=1) - cost_usd.min(axis=1)
    # At this price a whole unit of quality is not worth the smallest relevant cost gap.
    highest = 4.0 / max(float(np.median(dearest)) * 1e-3, 1e-12)
    corrected = _least_price(mean_cost, target_usd(pacer, budget_usd), highest)
    going = _least_price(mean_cost, budget_usd, highest)
    if going <= 0.0 or pacer.account_usd == 0.0:
        return replace(pacer, price_of_dollar=corrected, steady=None)
    steady = _averaged(pacer, going)
    # The best price is the same for all requests, so an account moves it no more than it must.
    requests = abs(pacer.account_usd) / max(budget_usd, 1e-30)
    patience = max(PATIENCE, PATIENCE_SHARE * min(pacer.paid, MEMORY))
    most = math.exp(min(requests / patience, 30.0))
    price = min(max(corrected, steady.price / most), steady.price * most)
    return replace(pacer, price_of_dollar=price, steady=steady)


def _averaged(pacer: PacerState, going: float) -> Steady:
    """The average with one more price in it."""
    past = pacer.steady
    if past is None:
        return Steady(going, pacer.paid, pacer.paid)
    new = pacer.paid - past.at
    kept = STEADY_SHARE * min(pacer.paid - past.since, MEMORY) - WINDOW
    weight = 1.0 if kept <= 0.0 else new / (new + kept)
    return Steady(past.price * (going / past.price) ** weight, past.since, pacer.paid)


def _least_price(mean_cost: Callable[[float], float], target: float, highest: float) -> float:
    """The least price of a dollar at which requests cost no more than the target."""
    if mean_cost(0.0) <= target:
        return 0.0
    if mean_cost(highest) >= target:
        return highest
    low, high = highest * 1e-9, highest
    cost_low, cost_high = mean_cost(low), mean_cost(high)
    if cost_low <= target:
        return low
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        cost = mean_cost(middle)
        if cost > target:
            low, cost_low = middle, cost
        else:
            high, cost_high = middle, cost
    # Between the last two prices cost is taken as linear, so that λ moves smoothly in a gap.
    share = (cost_low - target) / max(cost_low - cost_high, 1e-300)
    return low + share * (high - low)
