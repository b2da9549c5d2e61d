"""What a call will take: output size and seconds, predicted per request and per model.

All are positive and skewed, so their logarithms are regressed on the request's coordinates.
The amount is output tokens for a model with list prices (a price change then takes effect on
the next request) and dollars for one whose dollars are only known from its bills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Rows
from bandit_router.posterior import Prior, mean_and_variance
from bandit_router.types import BoolArray, FloatArray, IntArray, Observation

COLD_NOISE = 0.5
COLD_SCALE = 0.3
COLD_BIAS_SD = 3.0
LEAST_NOISE = 1e-4
COLD_TOKENS = 300.0
COLD_DOLLARS = 1e-3
COLD_SECONDS = 2.0
COLD_FIRST_TOKEN_SECONDS = 0.5
LEAST_AMOUNT = 1e-9
# Cuts that only keep exp finite; arrays, since a ufunc takes them faster than floats.
_MOST_LOG_AMOUNT = np.array(30.0)
_MOST_LOG_SECONDS = np.array(15.0)


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices as arrays (K,), in dollars per token and per second.

    metered: (K,) 1.0 where output tokens are the amount, 0.0 where dollars are. unit_usd: (K,)
    dollars per unit of amount. token_usd, time_usd: (K,) what is paid besides, per input token
    and per second: nothing where dollars are the amount. Worked out once, since every request
    needs them.
    """

    input_usd: FloatArray
    output_usd: FloatArray
    second_usd: FloatArray
    metered: FloatArray = field(init=False)
    unit_usd: FloatArray = field(init=False)
    token_usd: FloatArray = field(init=False)
    time_usd: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        metered = (self.output_usd > 0.0).astype(np.float64)
        for name, value in (
            ("metered", metered),
            ("unit_usd", np.where(self.output_usd > 0.0, self.output_usd, 1.0)),
            ("token_usd", self.input_usd * metered),
            ("time_usd", self.second_usd * metered),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class EffortState:
    """Heads on log amount, in units of what is typical of the arm, and on log seconds.

    typical: (K,) those units: tokens for some arms and dollars for others, which one prior
    could not be about. smearing: (K,) factor from exp(predicted log amount) to the expected
    amount, by which retransformation bias is undone (Duan 1983); fitted at each refit.
    first_token: heads on log seconds to the first token of a stream, None until one was seen.
    """

    amount: HeadBank
    latency: HeadBank
    smearing: FloatArray
    typical: FloatArray
    first_token: HeadBank | None = None


def empty_effort(arm_count: int, dimension: int, typical_amount: FloatArray) -> EffortState:
    """Nothing seen. typical_amount: (K,) what to expect of each arm before any call."""
    amount = heads.empty_bank(cold_prior(dimension, 0.0), arm_count)
    latency = heads.empty_bank(cold_prior(dimension, float(np.log(COLD_SECONDS))), arm_count)
    return EffortState(
        amount=amount, latency=latency, smearing=np.ones(arm_count), typical=typical_amount
    )


def cold_prior(dimension: int, centre: float) -> Prior:
    """The prior on a logarithm before any call: wide about ``centre``."""
    mean = np.zeros(dimension)
    mean[0] = centre
    precision = np.full(dimension, COLD_SCALE**-2)
    precision[0] = COLD_BIAS_SD**-2
    return Prior(mean=mean, precision=precision, noise=COLD_NOISE)


def predicted_amount(state: EffortState, z: FloatArray) -> FloatArray:
    """(K,) expected amount; z may also be (N, d), giving (N, K)."""
    amount = _exp_within(z.dot(state.amount.means.T), _MOST_LOG_AMOUNT)
    amount *= state.smearing
    amount *= state.typical
    return amount


def predicted_latency_s(state: EffortState, z: FloatArray) -> FloatArray:
    """(K,) typical seconds (the median, which one stalled call cannot drag); (N, K) for (N, d)."""
    return _exp_within(z.dot(state.latency.means.T), _MOST_LOG_SECONDS)


def predicted_first_token_s(state: EffortState, z: FloatArray) -> FloatArray | None:
    """(K,) typical seconds to the first token of a stream, a median too; None before any."""
    if state.first_token is None:
        return None
    return _exp_within(z.dot(state.first_token.means.T), _MOST_LOG_SECONDS)


def _exp_within(logarithm: FloatArray, most: FloatArray) -> FloatArray:
    """exp of numbers that are cut at ± ``most``, in place: quicker than np.clip by far."""
    np.minimum(logarithm, most, out=logarithm)
    np.maximum(logarithm, -most, out=logarithm)
    return np.exp(logarithm, out=logarithm)


def cost_usd(
    prices: Prices, input_tokens: FloatArray | float, amount: FloatArray, latency_s: FloatArray
) -> FloatArray:
    """(K,) dollars of a call; also (N, K) for input_tokens (N, 1).

    Where dollars are the amount, they are those of the whole call.
    """
    dollars = prices.unit_usd * amount
    dollars += prices.token_usd * input_tokens
    dollars += prices.time_usd * latency_s
    return dollars


def foreseen(
    state: EffortState, prices: Prices, z: FloatArray, input_tokens: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """(K,) typical seconds and expected dollars; (N, K) for z (N, d) and input_tokens (N, 1)."""
    latency_s = predicted_latency_s(state, z)
    return latency_s, cost_usd(prices, input_tokens, predicted_amount(state, z), latency_s)


def observed_amount(
    prices: Prices, arm: int, output_tokens: int | None, cost_usd: float | None
) -> float | None:
    """The amount that an outcome reveals, None where it reveals none."""
    if prices.output_usd[arm] > 0.0:
        return None if output_tokens is None else float(max(output_tokens, 1))
    return None if cost_usd is None else max(cost_usd, LEAST_AMOUNT)


def amount_of(prices: Prices, arm: int, row: Observation) -> float | None:
    """The amount that a row of the log reveals. A call that broke before it answered reveals
    none: it was cut short, and says nothing of how long an answer is."""
    if not row.answered:
        return None
    return observed_amount(prices, arm, row.output_tokens, row.cost_usd)


def surprise(
    state: EffortState, arm: int, z: FloatArray, amount: float
) -> tuple[float, float, float]:
    """How far the log of an amount was off its prediction, the sd of that prediction, and the
    sd of the noise about it."""
    head = state.amount.arms[arm]
    mean, variance = mean_and_variance(head, z)
    off = math.log(amount / state.typical.item(arm)) - mean
    noise = state.amount.priors.arms[arm].noise
    return off, math.sqrt(max(variance, 0.0)), math.sqrt(noise)


def after_call(
    state: EffortState,
    arm: int,
    z: FloatArray,
    *,
    amount: float | None,
    latency_s: float | None,
    weight: float,
    first_token_s: float | None = None,
) -> EffortState:
    """The state after one call of one arm."""
    amounts, latencies, first_tokens = state.amount, state.latency, state.first_token
    if amount is not None:
        log_amount = math.log(amount / state.typical.item(arm))
        amounts = heads.changed(amounts, arm, z, new=log_amount, old=None, weight=weight)
    if latency_s is not None and latency_s > 0.0:
        log_latency = math.log(latency_s)
        latencies = heads.changed(latencies, arm, z, new=log_latency, old=None, weight=weight)
    if first_token_s is not None and first_token_s > 0.0:
        if first_tokens is None:
            first_tokens = _no_first_tokens(len(latencies.arms), z.size)
        waited = math.log(first_token_s)
        first_tokens = heads.changed(first_tokens, arm, z, new=waited, old=None, weight=weight)
    if amounts is state.amount and latencies is state.latency and first_tokens is state.first_token:
        return state
    return EffortState(amounts, latencies, state.smearing, state.typical, first_tokens)


def _no_first_tokens(arm_count: int, dimension: int) -> HeadBank:
    centre = math.log(COLD_FIRST_TOKEN_SECONDS)
    return heads.empty_bank(cold_prior(dimension, centre), arm_count)


def after_calls(
    state: EffortState, log_amount: Rows, log_latency: Rows, log_first_token: Rows
) -> EffortState:
    """The state after many calls. Row values are logarithms of amounts and of seconds."""
    amount, latency, waited = _relative(log_amount, state.typical), log_latency, log_first_token
    first_tokens = state.first_token
    if waited.arm.size:
        if first_tokens is None:
            first_tokens = _no_first_tokens(state.typical.size, waited.z.shape[1])
        first_tokens = heads.with_new_rows(
            first_tokens, waited.z, waited.arm, waited.value, waited.weight
        )
    return EffortState(
        heads.with_new_rows(state.amount, amount.z, amount.arm, amount.value, amount.weight),
        heads.with_new_rows(state.latency, latency.z, latency.arm, latency.value, latency.weight),
        state.smearing,
        state.typical,
        first_tokens,
    )


def surprises(state: EffortState, log_amount: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``surprise`` of many calls, each (N,)."""
    amount = _relative(log_amount, state.typical)
    mean, sd = heads.predicted(state.amount, amount.z, amount.arm)
    noise = np.array([prior.noise for prior in state.amount.priors.arms])
    return amount.value - mean, sd, np.sqrt(noise)[amount.arm]


def _relative(log_amount: Rows, typical: FloatArray) -> Rows:
    """The rows in units of what is typical of their arms."""
    return replace(log_amount, value=log_amount.value - np.log(typical)[log_amount.arm])


def faded(state: EffortState, factor: float) -> EffortState:
    """The state after all rows age by one step of forgetting."""
    return replace(
        state,
        amount=heads.faded(state.amount, factor),
        latency=heads.faded(state.latency, factor),
        first_token=None if state.first_token is None else heads.faded(state.first_token, factor),
    )


def carried(
    state: EffortState,
    origin: IntArray,
    share: FloatArray,
    typical_amount: FloatArray,
    same_unit: BoolArray,
) -> EffortState:
    """The state for another list of arms; see ``heads.carried``.

    typical_amount: (K',) of arms never called. same_unit: (K',) whether the arm's amount is
    still what its head is about; tokens say nothing of dollars.
    """
    amount_origin = np.where(same_unit, origin, -1)
    known = amount_origin >= 0
    cold = float(np.exp(min(state.amount.priors.unseen.noise, 2.0) / 2.0))
    return EffortState(
        amount=heads.carried(state.amount, amount_origin, share),
        latency=heads.carried(state.latency, origin, share),
        smearing=np.where(known, state.smearing[amount_origin], cold),
        typical=np.where(known, state.typical[amount_origin], typical_amount),
        first_token=None
        if state.first_token is None
        else heads.carried(state.first_token, origin, share),
    )


def refitted(
    amount: Rows,
    latency: Rows,
    first_token: Rows,
    groups: FloatArray,
    typical_amount: FloatArray,
) -> EffortState:
    """Heads from the rows anew. Row values are logarithms of amounts and of seconds."""
    arm_count = typical_amount.size
    amount = _relative(amount, typical_amount)
    amounts = _fit(amount, groups, arm_count, 0.0)
    latencies = _fit(latency, groups, arm_count, float(np.log(COLD_SECONDS)))
    first_tokens = None
    if first_token.arm.size:
        first_tokens = _fit(first_token, groups, arm_count, math.log(COLD_FIRST_TOKEN_SECONDS))
    noise = np.array([prior.noise for prior in amounts.priors.arms])
    smearing = np.exp(np.minimum(noise, 2.0) / 2.0)
    for k in range(arm_count):
        of_arm = amount.arm == k
        if of_arm.any():
            guess = np.exp(amount.z[of_arm] @ amounts.means[k])
            weight = amount.weight[of_arm]
            ratio = float(weight @ np.exp(amount.value[of_arm])) / float(weight @ guess)
            # Shrunk towards the log-normal's own factor while there are few rows.
            share = of_arm.sum() / (of_arm.sum() + 10.0)
            smearing[k] = smearing[k] ** (1.0 - share) * ratio**share
    return EffortState(amounts, latencies, smearing, typical_amount, first_tokens)


def _fit(rows: Rows, groups: FloatArray, arm_count: int, centre: float) -> HeadBank:
    return heads.refitted(
        heads.sums_by_arm(rows.z, rows.arm, rows.value, rows.weight, arm_count),
        groups,
        cold_prior(groups.size, centre),
        bias_sd=COLD_BIAS_SD,
        least_noise=LEAST_NOISE,
    )
