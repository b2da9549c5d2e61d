"""Replay a full outcome matrix through the very functions that serve live requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.choice import draw
from bandit_router.config import ExplorationConfig
from bandit_router.exploration import SECONDS_PER_DAY, Activity
from bandit_router.learning import (
    LearnedState,
    LogRows,
    Problem,
    fold,
    init_state,
    refit,
)
from bandit_router.policies.base import Policy
from bandit_router.selection import select
from bandit_router.types import BoolArray, FloatArray, IntArray, Observation
from simulations.matrix import OutcomeMatrix

# A replayed log is fitted anew when it has grown by half since the last fit.
FIRST_REFIT = 24
REFIT_GROWTH = 1.5
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one replay did, request by request; all (n,).

    row: which prompt. arm: chosen. reward, cost_usd: as realised. price_of_dollar: λ.
    """

    row: IntArray
    arm: IntArray
    reward: FloatArray
    cost_usd: FloatArray
    price_of_dollar: FloatArray
    propensity: FloatArray


def replay(
    matrix: OutcomeMatrix,
    features: FloatArray,
    order: IntArray,
    problem: Problem,
    policy: Policy[Any],
    exploration: ExplorationConfig,
    rng: np.random.Generator,
    *,
    burn_in: int = 1,
    available: BoolArray | None = None,
) -> tuple[Trace, LearnedState]:
    """Route the prompts of ``order`` one after the other, learning from each outcome at once.

    Every prompt is routed before its outcome is seen, and only the chosen arm's outcome is
    revealed. features: (N, n). burn_in: forced looks at an arm that was never tried.
    available: (n, K) which arms the operator offers at each step, by default all: an arm that is
    not offered can neither be chosen nor be reckoned with by the pacer.
    """
    known = matrix.known
    state = init_state(problem, policy)
    count = order.size
    rows = order
    arms = np.zeros(count, dtype=np.int64)
    reward, cost, price, propensity = (np.zeros(count) for _ in range(4))
    tokens = np.nan_to_num(np.nanmax(_with_zero(matrix.input_tokens), axis=1))
    next_refit = FIRST_REFIT
    for step, row in enumerate(rows):
        eligible = known[row]
        if available is not None:
            eligible = eligible & available[step]
            if (available[step] != problem.routable).any():
                problem = replace(problem, routable=available[step])
        activity = _burn_in_activity(state.pulls, burn_in)
        selection = select(
            problem, policy, state, features[row], tokens[row], eligible, exploration, activity
        )
        arm = draw(selection.pmf, rng.random())
        dollars = float(matrix.cost_usd[row, arm])
        seconds = float(matrix.latency_s[row, arm])
        arms[step], reward[step] = arm, matrix.quality[row, arm]
        cost[step], price[step] = dollars, state.pacer.price_of_dollar
        propensity[step] = selection.pmf[arm]
        state = fold(
            problem,
            policy,
            state,
            Observation(
                decision_seq=step,
                decision_id=NOBODY,
                arm=problem.arms[arm],
                features=features[row],
                input_tokens=int(tokens[row]),
                reward=float(reward[step]),
                cost_usd=dollars if np.isfinite(dollars) else 0.0,
                latency_s=seconds if np.isfinite(seconds) else None,
            ),
        )
        if step + 1 >= next_refit:
            next_refit = int(next_refit * REFIT_GROWTH) + 1
            seen = slice(0, step + 1)
            state = refit(
                problem, policy, state, _log_rows(matrix, features, rows, arms, tokens, seen)
            )
    return Trace(rows, arms, reward, cost, price, propensity), state


def _with_zero(values: FloatArray) -> FloatArray:
    return np.concatenate([values, np.zeros((values.shape[0], 1))], axis=1)


def _burn_in_activity(pulls: FloatArray, burn_in: int) -> Activity | None:
    if burn_in == 0 or pulls.min() >= burn_in:
        return None
    return Activity(
        pulls=pulls,
        idle_s=np.where(pulls < burn_in, SECONDS_PER_DAY, 0.0),
        look_spend_usd=0.0,
    )


def _log_rows(
    matrix: OutcomeMatrix,
    features: FloatArray,
    rows: IntArray,
    arms: IntArray,
    tokens: FloatArray,
    seen: slice,
) -> LogRows:
    row, arm = rows[seen], arms[seen]
    return LogRows(
        features=features[row],
        arm=arm,
        decision_seq=np.arange(row.size, dtype=np.int64),
        input_tokens=tokens[row],
        output_tokens=matrix.output_tokens[row, arm],
        reward=matrix.quality[row, arm],
        cost_usd=matrix.cost_usd[row, arm],
        latency_s=matrix.latency_s[row, arm],
    )
