"""One replay under way: route a request or a few, look up what came of them, learn from it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router import alarms
from bandit_router.choice import draw, draw_rows
from bandit_router.config import ExplorationConfig, LearnerConfig
from bandit_router.exploration import SECONDS_PER_DAY, Activity
from bandit_router.in_blocks import fold_rows, select_rows
from bandit_router.learning import (
    LogRows,
    Problem,
    fold,
    init_state,
    refit,
)
from bandit_router.policies.base import InBlocks, Policy
from bandit_router.selection import select
from bandit_router.types import BoolArray, FloatArray, IntArray, Observation, Prediction
from simulations.coordinates_ahead import CoordinatesAhead, Features
from simulations.matrix import OutcomeMatrix
from simulations.posting import Ears, Posting
from simulations.trace import Records, Trace

# A replayed log is fitted anew when it has grown by half since the last fit.
FIRST_REFIT = 24
REFIT_GROWTH = 1.5
# As the service does by default, a fit goes back no farther than so many decisions.
REFIT_ROWS = LearnerConfig().refit_rows
# So many decisions are routed one by one before any are routed together; then at most such a
# share of those before, and at most so many.
ALONE_UNTIL = 10_000
MOST_SHARE_AT_ONCE = 0.001
MOST_AT_ONCE = 256
NOBODY = UUID(int=0)


@dataclass
class Run:
    """One replay under way: what was chosen and seen so far, and what was learned of it.

    rows: which prompt comes when. The rest is as in ``simulations.replay.replay``.
    """

    matrix: OutcomeMatrix
    features: Features
    rows: IntArray
    problem: Problem
    policy: Policy[Any]
    exploration: ExplorationConfig
    rng: np.random.Generator
    burn_in: int
    available: BoolArray | None
    feedback_step: IntArray | None
    posting: Posting | None
    record: bool

    def __post_init__(self) -> None:
        matrix, count = self.matrix, self.rows.size
        self.state = init_state(self.problem, self.policy)
        self.known = matrix.known
        self.tokens = np.nan_to_num(np.nanmax(_with_zero(matrix.input_tokens), axis=1))
        self.ahead = CoordinatesAhead(self.features, self.rows)
        self.ears = Ears(self.posting)
        self.arms = np.zeros(count, dtype=np.int64)
        self.reward, self.cost, self.price, self.propensity = (np.zeros(count) for _ in range(4))
        self.told = np.zeros(count, dtype=np.bool_)
        self.expected, self.weight = np.zeros(count), np.ones(count)
        self.records = Records.empty(count, len(self.problem.arms)) if self.record else None
        self.next_refit = FIRST_REFIT
        self.by_many = self.policy if isinstance(self.policy, InBlocks) else None
        self.waiting: list[tuple[int, int]] = []

    def trace(self) -> Trace:
        """What was done."""
        return Trace(
            self.rows,
            self.arms,
            self.reward,
            self.cost,
            self.price,
            self.propensity,
            self.records,
        )

    def hear_until(self, step: int) -> None:
        """Learn from the late rewards that are known before ``step``."""
        while self.waiting and self.waiting[0][0] <= step:
            self._hear(heapq.heappop(self.waiting)[1])

    def at_once(self, step: int) -> int:
        """How many requests to route together from ``step`` on."""
        count = min(int(step * MOST_SHARE_AT_ONCE), MOST_AT_ONCE, self.rows.size - step)
        if (
            step < ALONE_UNTIL
            or count < 2
            or self.by_many is None
            or not self.policy.adaptive
            or self.available is not None
            or self.posting is not None
            or alarms.anyone_watched(self.state.watch, self.state.pacer.paid)
            or _burn_in_activity(self.state.pulls, self.burn_in) is not None
        ):
            return 1
        return count

    def route(self, step: int) -> None:
        """Route one request, and learn from what comes of it at once."""
        row = self.rows[step]
        eligible = self.known[row]
        if self.available is not None:
            offered = self.available[step]
            eligible = eligible & offered
            if (offered != self.problem.routable).any():
                self.problem = replace(self.problem, routable=offered)
        z = self.ahead.at(self.state.basis, step)
        selection = select(
            self.problem,
            self.policy,
            self.state,
            self.features[row].astype(np.float64),
            self.tokens[row],
            eligible,
            self.exploration,
            _burn_in_activity(self.state.pulls, self.burn_in),
            z,
        )
        self.price[step] = self.state.pacer.price_of_dollar
        self.arms[step] = draw(selection.pmf, self.rng.random())
        self._note(slice(step, step + 1), eligible, selection.pmf, selection.prediction)
        self._fold(step, z)

    def route_many(self, steps: slice) -> None:
        """Route many requests on the same state, and learn from them together."""
        assert self.by_many is not None
        rows = self.rows[steps]
        z = self.ahead.many(self.state.basis, steps)
        eligible = self.known[rows]
        pmf, prediction = select_rows(
            self.problem,
            self.by_many,
            self.state,
            z,
            self.tokens[rows],
            eligible,
            self.exploration,
        )
        self.price[steps] = self.state.pacer.price_of_dollar
        self.arms[steps] = draw_rows(pmf, self.rng.random(rows.size))
        self._note(steps, eligible, pmf, prediction)
        learned = fold_rows(self.problem, self.by_many, self.state, self._log_rows(steps), z)
        if learned is None:
            for step, own in zip(range(steps.start, steps.stop), z, strict=True):
                self._fold(step, own)
        else:
            self.state = learned

    def refit_when_grown(self, step: int) -> None:
        """Fit anew once the log has grown enough, or at once where an alarm wants to be dated."""
        grown = step >= self.next_refit
        if grown:
            self.next_refit = int(self.next_refit * REFIT_GROWTH) + 1
        if not grown and not self.state.watch.unsettled:
            return
        seen = slice(max(step - REFIT_ROWS, 0), step)
        lined = self._log_rows(seen)
        if self.posting is not None:
            values = self.posting.value[np.arange(seen.start, seen.stop), self.arms[seen]]
            lined = replace(
                lined,
                reward=np.where(self.told[seen], values, np.nan),
                reward_weight=self.weight[seen],
            )
        self.state = refit(self.problem, self.policy, self.state, lined, seen.start)

    def _note(
        self, steps: slice, eligible: BoolArray, pmf: FloatArray, prediction: Prediction
    ) -> None:
        """Write down what was chosen, and look up what came of it. Arrays (K,) or (N, K)."""
        rows, arms = self.rows[steps], self.arms[steps]
        place = np.arange(rows.size)
        self.reward[steps] = self.matrix.quality[rows, arms]
        self.cost[steps] = self.matrix.cost_usd[rows, arms]
        self.propensity[steps] = np.atleast_2d(pmf)[place, arms]
        self.expected[steps] = np.atleast_2d(prediction.quality)[place, arms]
        if self.records is not None:
            self.records.put(steps, eligible, pmf, prediction)
        if self.feedback_step is None and self.posting is None:
            # The plain truth that comes at once travels with the bill.
            self.told[steps] = True
            return
        for step, arm in zip(range(steps.start, steps.stop), arms.tolist(), strict=True):
            known_at = step + 1
            if self.feedback_step is not None:
                known_at = int(self.feedback_step[step, arm])
            self.told[step] = known_at == step + 1 and self.posting is None
            if known_at > step and not self.told[step]:
                heapq.heappush(self.waiting, (known_at, step))

    def _fold(self, step: int, z: FloatArray) -> None:
        """Learn from one request's bill, and from its reward where that is known with it."""
        seconds = float(self.matrix.latency_s[self.rows[step], self.arms[step]])
        dollars = float(self.cost[step])
        seen = replace(
            self._seen(step),
            reward=float(self.reward[step]) if self.told[step] else None,
            cost_usd=dollars if np.isfinite(dollars) else 0.0,
            latency_s=seconds if np.isfinite(seconds) else None,
        )
        self.state = fold(self.problem, self.policy, self.state, seen, z)

    def _hear(self, late: int) -> None:
        """Learn from a late reward; and take out those that are no longer believed for it."""
        value = self._said(late)
        arm = self.problem.arms[self.arms[late]]
        believed, disowned = self.ears.hear(late, arm, value - float(self.expected[late]))
        if believed > 0.0:
            self.weight[late], self.told[late] = believed, True
            self._fold_change(late, value, None)
        for earlier in disowned:
            if self.told[earlier]:
                self.told[earlier] = False
                self._fold_change(earlier, None, self._said(earlier))

    def _fold_change(self, late: int, value: float | None, before: float | None) -> None:
        weight = float(self.weight[late])
        change = replace(
            self._seen(late),
            reward=value,
            previous_reward=before,
            weight=weight,
            previous_weight=weight,
        )
        self.state = fold(self.problem, self.policy, self.state, change)

    def _said(self, late: int) -> float:
        if self.posting is None:
            return float(self.reward[late])
        return float(self.posting.value[late, self.arms[late]])

    def _seen(self, step: int) -> Observation:
        """A row about a request, that says nothing yet."""
        row = self.rows[step]
        return Observation(
            decision_seq=step,
            decision_id=NOBODY,
            arm=self.problem.arms[self.arms[step]],
            features=self.features[row].astype(np.float64),
            input_tokens=int(self.tokens[row]),
        )

    def _log_rows(self, seen: slice) -> LogRows:
        row, arm = self.rows[seen], self.arms[seen]
        return LogRows(
            features=self.features[row].astype(np.float64),
            arm=arm,
            decision_seq=np.arange(seen.start, seen.stop, dtype=np.int64),
            input_tokens=self.tokens[row],
            output_tokens=self.matrix.output_tokens[row, arm],
            reward=np.where(self.told[seen], self.reward[seen], np.nan),
            cost_usd=self.matrix.cost_usd[row, arm],
            latency_s=self.matrix.latency_s[row, arm],
        )


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
