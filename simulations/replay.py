"""Replay a full outcome matrix through the very functions that serve live requests."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.choice import draw
from bandit_router.config import ExplorationConfig, LearnerConfig
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
from bandit_router.selection import Selection, select
from bandit_router.types import BoolArray, FloatArray, IntArray, Observation
from simulations.coordinates_ahead import CoordinatesAhead, Features
from simulations.matrix import OutcomeMatrix
from simulations.posting import Ears, Posting

# A replayed log is fitted anew when it has grown by half since the last fit.
FIRST_REFIT = 24
REFIT_GROWTH = 1.5
# As the service does by default, a fit goes back no farther than so many decisions.
REFIT_ROWS = LearnerConfig().refit_rows
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Records:
    """What a log keeps of each decision besides; all (n, K). Predictions are those made then."""

    eligible: BoolArray
    pmf: FloatArray
    quality: FloatArray
    quality_sd: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray

    @staticmethod
    def empty(count: int, arms: int) -> Records:
        """Room for ``count`` decisions."""
        numbers = [np.zeros((count, arms)) for _ in range(5)]
        return Records(np.zeros((count, arms), dtype=np.bool_), *numbers)

    def put(self, step: int, eligible: BoolArray, selection: Selection) -> None:
        """Write one decision down."""
        self.eligible[step], self.pmf[step] = eligible, selection.pmf
        expected = selection.prediction
        self.quality[step], self.quality_sd[step] = expected.quality, expected.quality_sd
        self.cost_usd[step], self.latency_s[step] = expected.cost_usd, expected.latency_s


@dataclass(frozen=True, slots=True)
class Trace:
    """What one replay did, request by request; all (n,).

    row: which prompt. arm: chosen. reward, cost_usd: as realised. price_of_dollar: λ.
    records: the whole pmf and the predictions, where asked for.
    """

    row: IntArray
    arm: IntArray
    reward: FloatArray
    cost_usd: FloatArray
    price_of_dollar: FloatArray
    propensity: FloatArray
    records: Records | None = None


def replay(
    matrix: OutcomeMatrix,
    features: Features,
    order: IntArray,
    problem: Problem,
    policy: Policy[Any],
    exploration: ExplorationConfig,
    rng: np.random.Generator,
    *,
    burn_in: int = 1,
    available: BoolArray | None = None,
    feedback_step: IntArray | None = None,
    posting: Posting | None = None,
    record: bool = False,
) -> tuple[Trace, LearnedState]:
    """Route the prompts of ``order`` one after the other, learning from each outcome at once.

    Every prompt is routed before its outcome is seen, and only the chosen arm's outcome is
    revealed. features: (N, n), of either precision. burn_in: forced looks at an arm that was
    never tried.
    available: (n, K) which arms the operator offers at each step, by default all: an arm that is
    not offered can neither be chosen nor be reckoned with by the pacer.
    feedback_step: (n, K) before which step an arm's reward on each request would become known,
    −1 for never; by default the next. Bills and latencies are always known at once. posting:
    what is then said of it and by whom, where that is not the plain truth. record: keep whole
    pmfs.
    """
    known = matrix.known
    state = init_state(problem, policy)
    count = order.size
    rows = order
    arms = np.zeros(count, dtype=np.int64)
    reward, cost, price, propensity = (np.zeros(count) for _ in range(4))
    told = np.zeros(count, dtype=np.bool_)
    expected, weight = np.zeros(count), np.ones(count)
    ears = Ears(posting)
    ahead = CoordinatesAhead(features, order)
    tokens = np.nan_to_num(np.nanmax(_with_zero(matrix.input_tokens), axis=1))
    records = Records.empty(count, len(problem.arms)) if record else None
    next_refit = FIRST_REFIT
    waiting: list[tuple[int, int]] = []

    def said(late: int) -> float:
        return float(reward[late] if posting is None else posting.value[late, arms[late]])

    def heard(late: int, value: float | None, before: float | None) -> Observation:
        return Observation(
            decision_seq=late,
            decision_id=NOBODY,
            arm=problem.arms[arms[late]],
            features=features[rows[late]].astype(np.float64),
            input_tokens=int(tokens[rows[late]]),
            reward=value,
            previous_reward=before,
            weight=float(weight[late]),
            previous_weight=float(weight[late]),
        )

    def hear(state: LearnedState, late: int) -> LearnedState:
        """The state after a late reward; and after those that are taken out for it."""
        value = said(late)
        arm = problem.arms[arms[late]]
        believed, disowned = ears.hear(late, arm, value - float(expected[late]))
        if believed > 0.0:
            weight[late], told[late] = believed, True
            state = fold(problem, policy, state, heard(late, value, None))
        for earlier in disowned:
            if told[earlier]:
                told[earlier] = False
                state = fold(problem, policy, state, heard(earlier, None, said(earlier)))
        return state

    for step, row in enumerate(rows):
        while waiting and waiting[0][0] <= step:
            state = hear(state, heapq.heappop(waiting)[1])
        eligible = known[row]
        if available is not None:
            eligible = eligible & available[step]
            if (available[step] != problem.routable).any():
                problem = replace(problem, routable=available[step])
        activity = _burn_in_activity(state.pulls, burn_in)
        z = ahead.at(state.basis, step)
        given = features[row].astype(np.float64)
        selection = select(
            problem, policy, state, given, tokens[row], eligible, exploration, activity, z
        )
        arm = draw(selection.pmf, rng.random())
        dollars = float(matrix.cost_usd[row, arm])
        seconds = float(matrix.latency_s[row, arm])
        arms[step], reward[step] = arm, matrix.quality[row, arm]
        cost[step], price[step] = dollars, state.pacer.price_of_dollar
        propensity[step] = selection.pmf[arm]
        expected[step] = selection.prediction.quality[arm]
        if records is not None:
            records.put(step, eligible, selection)
        known_at = step + 1 if feedback_step is None else int(feedback_step[step, arm])
        # The plain truth that comes at once travels with the bill.
        told[step] = known_at == step + 1 and posting is None
        if known_at > step and not told[step]:
            heapq.heappush(waiting, (known_at, step))
        state = fold(
            problem,
            policy,
            state,
            Observation(
                decision_seq=step,
                decision_id=NOBODY,
                arm=problem.arms[arm],
                features=given,
                input_tokens=int(tokens[row]),
                reward=float(reward[step]) if told[step] else None,
                cost_usd=dollars if np.isfinite(dollars) else 0.0,
                latency_s=seconds if np.isfinite(seconds) else None,
            ),
            z,
        )
        grown = step + 1 >= next_refit
        if grown or state.watch.unsettled:
            next_refit = int(next_refit * REFIT_GROWTH) + 1 if grown else next_refit
            seen = slice(max(step + 1 - REFIT_ROWS, 0), step + 1)
            lined = _log_rows(matrix, features, rows, arms, tokens, told, seen)
            if posting is not None:
                values = posting.value[np.arange(seen.start, seen.stop), arms[seen]]
                lined = replace(
                    lined,
                    reward=np.where(told[seen], values, np.nan),
                    reward_weight=weight[seen],
                )
            state = refit(problem, policy, state, lined, seen.start)
    return Trace(rows, arms, reward, cost, price, propensity, records), state


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
    features: Features,
    rows: IntArray,
    arms: IntArray,
    tokens: FloatArray,
    told: BoolArray,
    seen: slice,
) -> LogRows:
    row, arm = rows[seen], arms[seen]
    return LogRows(
        features=features[row].astype(np.float64),
        arm=arm,
        decision_seq=np.arange(seen.start, seen.stop, dtype=np.int64),
        input_tokens=tokens[row],
        output_tokens=matrix.output_tokens[row, arm],
        reward=np.where(told[seen], matrix.quality[row, arm], np.nan),
        cost_usd=matrix.cost_usd[row, arm],
        latency_s=matrix.latency_s[row, arm],
    )
