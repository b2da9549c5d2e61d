"""Fold the log into the learned state, row by row and now and then from scratch."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bandit_router import learning, snapshot
from bandit_router.config import LearnerConfig
from bandit_router.errors import SnapshotError
from bandit_router.learning import LearnedState, LogRows, Problem
from bandit_router.policies import Policy
from bandit_router.protocols import Clock, LearnerBatch, LearnerStore, SnapshotRecord
from bandit_router.roster import adapted
from bandit_router.serving import Serving
from bandit_router.types import Observation

# The first fits come early, then each time the rewards have grown by half.
FIRST_REFIT_REWARDS = 24
REFIT_GROWTH = 1.5
# Growth alone asks for fits one after the other while traffic is fast: so many times as long as
# the last one took (3 % of a core) the next one waits. An alarm's does not wait.
REFIT_REST = 30.0
QUARANTINE_KEPT = 100
# Rows folded between two looks at the event loop's other work.
ROWS_PER_TURN = 250
START = (0, 0)


class RefitStore(LearnerStore, Protocol):
    """A learner store that can also hand out the log's end for a fit from scratch."""

    async def refit_rows(self, limit: int, upto: tuple[int, int] | None = None) -> LearnerBatch: ...


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that was passed over, and why."""

    decision_id: str
    arm: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the learner stands, for operators."""

    version: int
    cursor: tuple[int, int]
    rewards: int
    rewards_at_refit: int
    quarantined: int


class Learner:
    """One process's fold of the log; only the leader calls ``step``.

    State is the newest snapshot plus the rows after it, in ingestion order, so that whoever
    becomes leader arrives at the same one.
    """

    def __init__(
        self,
        store: RefitStore,
        problem: Problem,
        policy: Policy[Any],
        extractor_version: str,
        config: LearnerConfig,
        clock: Clock,
        *,
        frozen: bool = False,
        books: bool = True,
    ) -> None:
        """frozen: stay what the newest snapshot is. books: whether what is paid is this policy's
        own spending; a challenger's budget is not to blame for what the champion spends."""
        self.frozen = frozen
        self._books = books
        self._store = store
        self._problem = problem
        self._policy = policy
        self._extractor_version = extractor_version
        self._config = config
        self._clock = clock
        self._state = learning.init_state(problem, policy)
        self._cursor = START
        self._version = 0
        self._rewards_at_refit = 0.0
        self._refit_at_s = clock.monotonic_s()
        self._refit_took_s = 0.0
        self._fits_snapshot = False
        self._other_arms = False
        self._other_prior = False
        self._next: tuple[Problem, Policy[Any]] | None = None
        self.quarantine: deque[Quarantined] = deque(maxlen=QUARANTINE_KEPT)

    @property
    def serving(self) -> Serving:
        """The state as of the last snapshot written or read."""
        return Serving(version=self._version, state=self._state)

    @property
    def problem(self) -> Problem:
        """What the state is learned for."""
        return self._problem

    def adopt(self, problem: Problem, policy: Policy[Any]) -> None:
        """Learn for other models, prices or another budget from the next turn on; the policy's
        name and the features must be the same."""
        self._next = (problem, policy)

    @property
    def progress(self) -> Progress:
        """Where this learner stands."""
        return Progress(
            version=self._version,
            cursor=self._cursor,
            rewards=int(self._state.rewards.sum()),
            rewards_at_refit=int(self._rewards_at_refit),
            quarantined=len(self.quarantine),
        )

    async def load(self) -> Serving:
        """Take up the newest snapshot; one of other models by their names. One that does not
        fit what is configured now is not used: a replica then serves a cold state until the
        leader has fitted anew."""
        self._take_up()
        record = await self._store.latest_snapshot(self._policy.name, known=self._version)
        if record is not None:
            try:
                # Requests go on meanwhile.
                state = await asyncio.to_thread(
                    snapshot.from_bytes, self._problem, self._policy, record.payload
                )
                self._other_prior = snapshot.prior_of(record.payload) != snapshot.prior_digest(
                    self._problem
                )
            except SnapshotError:
                self._fits_snapshot = False
                self._state = learning.init_state(self._problem, self._policy)
                self._cursor = START
            else:
                self._fits_snapshot = True
                self._other_arms = not snapshot.is_for(self._problem, record.payload)
                self._state = state
                self._cursor = record.cursor
                self._rewards_at_refit = float(state.rewards.sum())
            self._version = record.version
        return self.serving

    async def take_over(self) -> Serving:
        """What a new leader does first: load, and without a usable snapshot fit from the log."""
        await self.load()
        if self.frozen:
            return self.serving
        if self._other_prior:
            # Served until here; what was believed beforehand is another thing now.
            self._state = learning.init_state(self._problem, self._policy)
            self._cursor, self._fits_snapshot, self._other_prior = START, False, False
        if self._cursor == START:
            with self._all_or_nothing():
                await self._fit_from_log()
                if self._cursor != START or not self._fits_snapshot:
                    await self._write("init")
        elif self._other_arms:
            # What follows builds on this state, so it is written down under these models.
            with self._all_or_nothing():
                await self._write("arms")
                self._other_arms = False
        return self.serving

    async def step(self) -> bool:
        """Fold what is new, fit anew when due; True when a new snapshot was written.

        A step that fails changes nothing, so that it can be taken again.
        """
        self._take_up()
        if self.frozen:
            return False
        if self._other_arms and self._cursor != START:
            await self.take_over()
            return True
        batch = await self._store.learner_rows(self._cursor, self._config.batch_rows)
        if batch.cursor == self._cursor:
            return False
        with self._all_or_nothing():
            await self._fold(batch.observations)
            self._cursor = batch.cursor
            reason = "fold"
            if self._refit_due():
                await self._fit_from_log()
                reason = "refit"
            await self._write(reason)
        return True

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Go back where the block fails: no state may serve under a version that lacks it."""
        before = (self._state, self._cursor, self._rewards_at_refit, self._refit_at_s)
        quarantine = self.quarantine.copy()
        try:
            yield
        except BaseException:
            self._state, self._cursor, self._rewards_at_refit, self._refit_at_s = before
            self.quarantine = quarantine
            raise

    def _take_up(self) -> None:
        if self._next is None:
            return
        (problem, policy), self._next = self._next, None
        self._other_arms |= problem.arms != self._problem.arms
        self._state = adapted(policy, self._state, self._problem, problem)
        self._problem, self._policy = problem, policy

    def _refit_due(self) -> bool:
        rewards = float(self._state.rewards.sum())
        if rewards < FIRST_REFIT_REWARDS:
            return False
        if self._state.watch.unsettled:
            return True
        passed_s = self._clock.monotonic_s() - self._refit_at_s
        if passed_s < REFIT_REST * self._refit_took_s:
            return False
        grown = rewards >= self._rewards_at_refit * REFIT_GROWTH
        return grown or passed_s >= self._config.refit_interval_s

    async def _fold(self, observations: Sequence[Observation]) -> None:
        for start in range(0, len(observations), ROWS_PER_TURN):
            turn = observations[start : start + ROWS_PER_TURN]
            self._state = await asyncio.to_thread(self._fold_rows, self._state, turn)

    def _fold_rows(self, state: LearnedState, rows: Sequence[Observation]) -> LearnedState:
        for row in rows:
            reason = unfit(row, self._problem)
            if reason is None:
                try:
                    state = learning.fold(self._problem, self._policy, state, row)
                except FloatingPointError as error:
                    reason = str(error)
                if not self._books:
                    state = without_account(state)
            if reason is not None:
                self.quarantine.append(Quarantined(str(row.decision_id), row.arm, reason))
        return state

    async def _fit_from_log(self) -> None:
        begun_s = self._clock.monotonic_s()
        upto = None if self._cursor == START else self._cursor
        batch = await self._store.refit_rows(self._config.refit_rows, upto)
        fit = [row for row in batch.observations if unfit(row, self._problem) is None]
        rows = log_rows(self._problem, fit)
        if rows.arm.size:
            self._state = await asyncio.to_thread(
                learning.refit, self._problem, self._policy, self._state, rows, batch.since
            )
        self._cursor = batch.cursor
        self._rewards_at_refit = float(self._state.rewards.sum())
        self._refit_at_s = self._clock.monotonic_s()
        self._refit_took_s = self._refit_at_s - begun_s

    async def _write(self, reason: str) -> None:
        payload = await asyncio.to_thread(
            snapshot.to_bytes, self._problem, self._policy, self._state
        )
        await self._store.write_snapshot(
            SnapshotRecord(
                version=self._version + 1,
                created_at=self._clock.now(),
                policy=self._policy.name,
                extractor_version=self._extractor_version,
                cursor=self._cursor,
                reason=reason,
                payload=payload,
            )
        )
        self._version += 1


def without_account(state: LearnedState) -> LearnedState:
    """The state with neither debt nor savings."""
    return replace(state, pacer=replace(state.pacer, account_usd=0.0))


def unfit(row: Observation, problem: Problem) -> str | None:
    """Why a row cannot be learned from, None when it can. Rows of models that are no longer
    configured are fit: the fold passes them over without complaint."""
    if row.features.size != len(problem.feature_names):
        return (
            f"{row.features.size} features, {len(problem.feature_names)} expected: "
            "stored by another extractor"
        )
    made, wanted = row.extractor_version, problem.extractor_version
    if made and wanted and made != wanted:
        return f"features by extractor {made}, not {wanted}"
    if not np.isfinite(row.features).all():
        return "a feature is not finite"
    for name, value in (
        ("reward", row.reward),
        ("previous_reward", row.previous_reward),
        ("cost_usd", row.cost_usd),
        ("latency_s", row.latency_s),
        ("weight", row.weight),
        ("previous_weight", row.previous_weight),
    ):
        if value is not None and not math.isfinite(value):
            return f"{name} is {value}"
    for reward in (row.reward, row.previous_reward):
        if reward is not None and not 0.0 <= reward <= 1.0:
            return f"reward {reward} lies outside [0, 1]"
    for weight in (row.weight, row.previous_weight):
        if weight <= 0.0:
            return f"weight {weight} is not positive"
    if row.cost_usd is not None and row.cost_usd < 0.0:
        return f"cost_usd {row.cost_usd} is negative"
    return None


def log_rows(problem: Problem, observations: Sequence[Observation]) -> LogRows:
    """Final rows, one per decision, as arrays; rows of unknown arms are left out, unless a new
    version of theirs is known, and then they are what that inherits."""
    index = {name: k for k, name in enumerate(problem.arms)}
    rows = _rows_of(problem, [row for row in observations if row.arm in index], index)
    heirs = {name: k for k, name in enumerate(problem.predecessors) if name}
    left = [row for row in observations if row.arm in heirs]
    return replace(rows, inherited=_rows_of(problem, left, heirs)) if left else rows


def _rows_of(problem: Problem, known: Sequence[Observation], index: Mapping[str, int]) -> LogRows:

    def column(values: Sequence[float | int | None]) -> Any:
        return np.array([np.nan if value is None else float(value) for value in values])

    return LogRows(
        features=np.array([row.features for row in known]).reshape(
            len(known), len(problem.feature_names)
        ),
        arm=np.array([index[row.arm] for row in known], dtype=np.int64),
        decision_seq=np.array([row.decision_seq for row in known], dtype=np.int64),
        input_tokens=column([row.input_tokens for row in known]),
        output_tokens=column([row.output_tokens for row in known]),
        reward=column([row.reward for row in known]),
        cost_usd=column([row.cost_usd for row in known]),
        latency_s=column([row.latency_s for row in known]),
        reward_weight=column([row.weight for row in known]),
        first_token_s=column([row.first_token_s for row in known]),
    )
