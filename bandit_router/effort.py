"""What a call will take: output size and seconds, predicted per request and per model.

Both are positive and skewed, so their logarithms are regressed on the request's coordinates.
The amount is output tokens for a model with list prices (a price change then takes effect on
the next request) and dollars for one whose dollars are only known from its bills.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.policies.base import Rows
from bandit_router.posterior import Prior, mean_and_variance
from bandit_router.types import BoolArray, FloatArray, IntArray

COLD_NOISE = 0.5
COLD_SCALE = 0.3
COLD_BIAS_SD = 3.0
LEAST_NOISE = 1e-4
COLD_TOKENS = 300.0
COLD_DOLLARS = 1e-3
COLD_SECONDS = 2.0
LEAST_AMOUNT = 1e-9


@dataclass(frozen=True, slots=True)
class Prices:
    """List prices as arrays (K,), in dollars per token and per second."""

    input_usd: FloatArray
    output_usd: FloatArray
    second_usd: FloatArray

    @property
    def metered(self) -> FloatArray:
        """(K,) 1.0 where output tokens are the amount, 0.0 where dollars are."""
        return np.asarray((self.output_usd > 0.0).astype(np.float64))

    @property
    def unit_usd(self) -> FloatArray:
        """(K,) dollars per unit of amount."""
        return np.where(self.output_usd > 0.0, self.output_usd, 1.0)


@dataclass(frozen=True, slots=True)
class EffortState:
    """Heads on log amount, in units of what is typical of the arm, and on log seconds.

    typical: (K,) those units: tokens for some arms and dollars for others, which one prior
    could not be about. smearing: (K,) factor from exp(predicted log amount) to the expected
    amount, by which retransformation bias is undone (Duan 1983); fitted at each refit.
    """

    amount: HeadBank
    latency: HeadBank
    smearing: FloatArray
    typical: FloatArray


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
    unscaled = np.exp(np.clip(z @ state.amount.means.T, -30.0, 30.0))
    return np.asarray(unscaled * (state.smearing * state.typical))


def predicted_latency_s(state: EffortState, z: FloatArray) -> FloatArray:
    """(K,) typical seconds (the median, which one stalled call cannot drag); (N, K) for (N, d)."""
    return np.asarray(np.exp(np.clip(z @ state.latency.means.T, -15.0, 15.0)))


def cost_usd(
    prices: Prices, input_tokens: FloatArray | float, amount: FloatArray, latency_s: FloatArray
) -> FloatArray:
    """(K,) dollars of a call; also (N, K) for input_tokens (N, 1).

    Where dollars are the amount, they are those of the whole call.
    """
    besides = prices.input_usd * input_tokens + prices.second_usd * latency_s
    return np.asarray(prices.unit_usd * amount + besides * prices.metered)


def observed_amount(
    prices: Prices, arm: int, output_tokens: int | None, cost_usd: float | None
) -> float | None:
    """The amount that an outcome reveals, None where it reveals none."""
    if prices.output_usd[arm] > 0.0:
        return None if output_tokens is None else float(max(output_tokens, 1))
    return None if cost_usd is None else max(cost_usd, LEAST_AMOUNT)


def surprise(
    state: EffortState, arm: int, z: FloatArray, amount: float
) -> tuple[float, float, float]:
    """How far the log of an amount was off its prediction, the sd of that prediction, and the
    sd of the noise about it."""
    head = state.amount.arms[arm]
    mean, variance = mean_and_variance(head, z)
    off = float(np.log(amount / state.typical[arm])) - mean
    noise = state.amount.priors.arms[arm].noise
    return off, float(np.sqrt(max(variance, 0.0))), float(np.sqrt(noise))


def after_call(
    state: EffortState,
    arm: int,
    z: FloatArray,
    *,
    amount: float | None,
    latency_s: float | None,
    weight: float,
) -> EffortState:
    """The state after one call of one arm."""
    if amount is not None:
        log_amount = float(np.log(amount / state.typical[arm]))
        bank = heads.changed(state.amount, arm, z, new=log_amount, old=None, weight=weight)
        state = replace(state, amount=bank)
    if latency_s is not None and latency_s > 0.0:
        log_latency = float(np.log(latency_s))
        bank = heads.changed(state.latency, arm, z, new=log_latency, old=None, weight=weight)
        state = replace(state, latency=bank)
    return state


def faded(state: EffortState, factor: float) -> EffortState:
    """The state after all rows age by one step of forgetting."""
    return replace(
        state,
        amount=heads.faded(state.amount, factor),
        latency=heads.faded(state.latency, factor),
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
    )


def refitted(
    amount: Rows, latency: Rows, groups: FloatArray, typical_amount: FloatArray
) -> EffortState:
    """Heads from the rows anew. Row values are logarithms of amounts and of seconds."""
    arm_count = typical_amount.size
    amount = replace(amount, value=amount.value - np.log(typical_amount)[amount.arm])
    amounts = _fit(amount, groups, arm_count, 0.0)
    latencies = _fit(latency, groups, arm_count, float(np.log(COLD_SECONDS)))
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
    return EffortState(amount=amounts, latency=latencies, smearing=smearing, typical=typical_amount)


def _fit(rows: Rows, groups: FloatArray, arm_count: int, centre: float) -> HeadBank:
    return heads.refitted(
        heads.sums_by_arm(rows.z, rows.arm, rows.value, rows.weight, arm_count),
        groups,
        cold_prior(groups.size, centre),
        bias_sd=COLD_BIAS_SD,
        least_noise=LEAST_NOISE,
    )
