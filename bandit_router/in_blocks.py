"""Many requests routed on one state and then learned from at once, for long replays.

It is what a busy service does, which routes the requests in flight on one snapshot, and what
``select`` and ``fold`` do one by one: the same beliefs, pmfs and posteriors up to rounding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bandit_router import effort, pacing
from bandit_router.choice import mix_rows
from bandit_router.config import ExplorationConfig
from bandit_router.exploration import floors_of_rows
from bandit_router.known_rows import known_rows
from bandit_router.learning import LearnedState, LogRows, Problem, faded, with_solved_price
from bandit_router.policies.base import InBlocks
from bandit_router.selection import dearest_usd, penalty_of
from bandit_router.types import BoolArray, FloatArray, Prediction
from bandit_router.watching import quietly


def select_rows(
    problem: Problem,
    policy: InBlocks[Any],
    state: LearnedState,
    z: FloatArray,
    input_tokens: FloatArray,
    eligible: BoolArray,
    config: ExplorationConfig,
) -> tuple[FloatArray, Prediction]:
    """(N, K) pmfs, ready to be drawn from, and what they were made of, as ``select`` gives them.

    z: (N, d). input_tokens: (N,). eligible: (N, K). For an adaptive policy while no arm is due
    for a forced look and none is watched.
    """
    beliefs = policy.beliefs_of_rows(state.policy, z)
    latency_s, cost_usd = effort.foreseen(state.effort, problem.prices, z, input_tokens[:, None])
    prediction = Prediction(beliefs.mean, beliefs.sd, cost_usd, latency_s)
    penalty = penalty_of(prediction, state.pacer.price_of_dollar, problem.value_of_second)
    pmf = policy.pmf_of_rows(beliefs, penalty, eligible)
    floor = floors_of_rows(
        config,
        pmf,
        beliefs.mean - penalty,
        beliefs.sd,
        cost_usd,
        eligible,
        dearest_usd(problem),
    )
    return mix_rows(pmf, floor), prediction


def fold_rows(
    problem: Problem,
    policy: InBlocks[Any],
    state: LearnedState,
    rows: LogRows,
    z: FloatArray,
) -> LearnedState | None:
    """The state after the log's next rows, each the answer to a request of its own.

    z: (N, d) their coordinates. Every cost has to be known. The alarms bet against what was
    believed before the first of the rows. None where an arm is watched or an alarm would be
    raised: then it matters which row comes first, and they are to be folded one by one.
    """
    state = faded(problem, policy, state, int(rows.decision_seq[-1]))
    known = known_rows(
        problem, state.basis, rows, state.clock, state.watch, state.half_life_decisions, z
    )
    watch = quietly(policy, state, known, rows)
    if watch is None:
        return None
    count = len(problem.arms)
    pacer = pacing.after_payments(
        state.pacer, z, rows.input_tokens, rows.cost_usd, problem.budget_usd
    )
    learned = replace(
        state,
        policy=policy.update_rows(state.policy, known.reward),
        effort=effort.after_calls(
            state.effort, known.log_amount, known.log_latency, known.log_first_token
        ),
        pacer=pacer,
        pulls=state.pulls + np.bincount(rows.arm, minlength=count),
        rewards=state.rewards + np.bincount(known.reward.arm, minlength=count),
        watch=watch,
    )
    if pacing.due(pacer, state.pacer.paid):
        return with_solved_price(problem, policy, learned)
    return learned
