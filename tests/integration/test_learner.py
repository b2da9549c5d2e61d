"""The learner against a real Postgres: what it knows is what the log says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from core_samples import make_policy, make_problem
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import ARMS, first_value, make_decision, make_outcome

from bandit_router import snapshot
from bandit_router.config import LearnerConfig
from bandit_router.errors import SnapshotError
from bandit_router.learner import (
    FIRST_REFIT_REWARDS,
    REFIT_REST,
    START,
    Learner,
    log_rows,
)
from bandit_router.learning import LearnedState, Problem, fold, init_state, refit
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.protocols import LearnerBatch, SnapshotRecord
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.learner_store import PostgresLearnerStore
from bandit_router.store.reward_log import learner_row
from bandit_router.store.tables import rewards
from bandit_router.types import Decision, Feedback, Reward

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROBLEM = make_problem(ARMS, feature_count=3, budget_usd=1e-3)
POLICY = make_policy()


class Hand:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return self.passed_s


class Traffic:
    """Decisions, outcomes and feedback, written as the service writes them."""

    def __init__(self, log: PostgresDecisionLog, signals: PostgresFeedbackStore) -> None:
        self._log = log
        self._signals = signals
        self._rng = np.random.default_rng(5)

    async def decide(self, **changes: Any) -> Decision:
        x = self._rng.normal(size=3).astype(np.float32)
        decision = make_decision(features=x, **changes)
        await self._log.record_decision(decision)
        return decision

    async def answer(self, decision: Decision, by: str = "small", **changes: Any) -> None:
        await self._log.record_outcome(make_outcome(decision, by, **changes), [])

    async def score(self, decision: Decision, value: float | None) -> None:
        await self._signals.record_feedback(Feedback(decision.id, "quality", value, NOON))

    async def requests(self, count: int) -> list[Decision]:
        """Decisions that are answered by each arm in turn and scored."""
        made = []
        for i in range(count):
            decision = await self.decide()
            await self.answer(decision, ARMS[i % 3])
            await self.score(decision, float(self._rng.uniform()))
            made.append(decision)
        return made


@pytest_asyncio.fixture
async def traffic(engine: AsyncEngine) -> AsyncIterator[Traffic]:
    async with (
        PostgresDecisionLog(engine) as log,
        PostgresFeedbackStore(engine, first_value) as signals,
    ):
        yield Traffic(log, signals)


@pytest.fixture
def store(engine: AsyncEngine) -> PostgresLearnerStore:
    return PostgresLearnerStore(engine)


def learner(
    store: PostgresLearnerStore,
    problem: Problem = PROBLEM,
    clock: Hand | None = None,
    **config: Any,
) -> Learner:
    settings = LearnerConfig.model_validate(config)
    return Learner(store, problem, POLICY, "stats-1", settings, clock or Hand())


def in_bytes(state: LearnedState, problem: Problem = PROBLEM) -> bytes:
    return snapshot.to_bytes(problem, POLICY, state)


@pytest.mark.asyncio
async def test_the_state_is_the_fold_of_the_log(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    made = await traffic.requests(7)
    await traffic.score(made[2], 0.125)
    await traffic.score(made[3], None)
    learning = learner(store)
    await learning.take_over()
    assert not await learning.step()
    await traffic.requests(5)
    await traffic.score(made[4], 0.75)
    before = learning.serving.state
    assert await learning.step()
    record = await store.latest_snapshot(POLICY.name)
    assert record is not None
    assert record.reason == "fold"
    assert record.extractor_version == "stats-1"
    expected = before
    first = await store.snapshot(POLICY.name, 1)
    assert first is not None
    for row in await store.rows_between(first.cursor, record.cursor):
        expected = fold(PROBLEM, POLICY, expected, row)
    assert in_bytes(learning.serving.state) == in_bytes(expected) == record.payload
    assert learning.serving.version == record.version == 2
    assert learning.progress.rewards == 11
    assert not await learning.step()


@pytest.mark.asyncio
async def test_any_way_of_cutting_the_log_into_steps_gives_the_same_state(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    await traffic.requests(1)
    one = learner(store)
    await one.take_over()
    await traffic.requests(7)
    start = await store.snapshot(POLICY.name, 1)
    assert start is not None
    # Three rows a step, by three processes one after the other, each of which dies.
    for _ in range(3):
        successor = learner(store, batch_rows=3)
        await successor.take_over()
        await successor.step()
    last = learner(store, batch_rows=3)
    await last.take_over()
    while await last.step():
        pass
    expected = snapshot.from_bytes(PROBLEM, POLICY, start.payload)
    for row in (await store.learner_rows(start.cursor, 1000)).observations:
        expected = fold(PROBLEM, POLICY, expected, row)
    assert in_bytes(last.serving.state) == in_bytes(expected)
    # A replica that only reads serves the same.
    replica = learner(store)
    serving = await replica.load()
    assert serving.version == last.serving.version
    assert in_bytes(serving.state) == in_bytes(expected)


@pytest.mark.asyncio
async def test_a_first_leader_fits_what_is_already_logged(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    await traffic.requests(40)
    fresh = learner(store)
    serving = await fresh.take_over()
    batch = await store.refit_rows(1000)
    expected = refit(
        PROBLEM, POLICY, init_state(PROBLEM, POLICY), log_rows(PROBLEM, batch.observations)
    )
    assert in_bytes(serving.state) == in_bytes(expected)
    assert fresh.progress.cursor == batch.cursor
    assert fresh.progress.rewards == fresh.progress.rewards_at_refit == 40
    record = await store.latest_snapshot(POLICY.name)
    assert record is not None
    assert (record.version, record.reason) == (1, "init")


@pytest.mark.asyncio
async def test_it_refits_early_then_as_the_log_grows_then_by_the_clock(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    clock = Hand()
    learning = learner(store, clock=clock, refit_interval_s=300.0)
    await learning.take_over()

    async def reason_after(count: int) -> str:
        await traffic.requests(count)
        assert await learning.step()
        record = await store.latest_snapshot(POLICY.name)
        assert record is not None
        return record.reason

    assert await reason_after(FIRST_REFIT_REWARDS - 1) == "fold"
    assert await reason_after(1) == "refit"
    assert learning.progress.rewards_at_refit == FIRST_REFIT_REWARDS
    assert await reason_after(11) == "fold"
    assert await reason_after(1) == "refit"
    assert await reason_after(1) == "fold"
    clock.passed_s += 300.0
    assert await reason_after(1) == "refit"
    assert await reason_after(1) == "fold"
    # The bases differ, but nothing was lost on the way.
    assert learning.progress.rewards == learning.serving.state.pulls.sum() == 39


@pytest.mark.asyncio
async def test_while_traffic_is_fast_fits_have_a_bounded_share_of_the_time(
    traffic: Traffic, engine: AsyncEngine
) -> None:
    clock = Hand()

    class Slow(PostgresLearnerStore):
        async def refit_rows(self, limit: int, upto: tuple[int, int] | None = None) -> LearnerBatch:
            clock.passed_s += 2.0
            return await super().refit_rows(limit, upto)

    learning = learner(Slow(engine), clock=clock, refit_interval_s=1000.0)
    # The first look at the log is a fit too, if of nothing.
    await learning.take_over()
    clock.passed_s += REFIT_REST * 2.0
    fitted = []
    for _ in range(4):
        await traffic.requests(FIRST_REFIT_REWARDS)
        clock.passed_s += REFIT_REST * 2.0 * 0.6
        assert await learning.step()
        fitted.append(learning.progress.rewards_at_refit)
    # Each time the log has grown by a third at least, and every other time that has to wait.
    assert fitted == [24, 24, 72, 72]


@pytest.mark.asyncio
async def test_a_row_that_cannot_be_learned_from_is_set_aside(
    engine: AsyncEngine, traffic: Traffic, store: PostgresLearnerStore
) -> None:
    learning = learner(store)
    await learning.take_over()
    good = await traffic.requests(1)
    other_extractor = make_decision(features=np.zeros(9, dtype=np.float32))
    not_finite = make_decision(features=np.array([1.0, np.nan, 0.0], dtype=np.float32))
    async with PostgresDecisionLog(engine) as log:
        for decision in (other_extractor, not_finite):
            await log.record_decision(decision)
    async with engine.begin() as connection:
        await connection.execute(
            insert(rewards),
            [
                learner_row(other_extractor.id, "small", reward=Reward(0.5)),
                learner_row(not_finite.id, "small", reward=Reward(0.5)),
                learner_row(good[0].id, "small", cost_usd=-1.0, latency_s=1.0),
                learner_row(good[0].id, "small", cost_usd=float("nan"), latency_s=1.0),
                learner_row(good[0].id, "retired", reward=Reward(0.5)),
            ],
        )
    await traffic.requests(1)
    assert await learning.step()
    reasons = [row.reason for row in learning.quarantine]
    assert len(reasons) == learning.progress.quarantined == 4
    for told, expected in zip(
        reasons,
        ("9 features, 3 expected", "a feature is not finite", "cost_usd -1.0", "cost_usd is nan"),
        strict=True,
    ):
        assert expected in told
    assert learning.quarantine[0].decision_id == str(other_extractor.id)
    # The good rows around them were learned from.
    assert learning.progress.rewards == 2
    assert np.isfinite(learning.serving.state.policy.means).all()


@pytest.mark.asyncio
async def test_a_snapshot_for_other_models_is_taken_up_by_name_and_written_down(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    old = learner(store)
    await old.take_over()
    await traffic.requests(30)
    assert await old.step()
    # The operator adds a model and drops one.
    now = make_problem(("small", "brand-new", "local"), feature_count=3, budget_usd=1e-3)
    replica = learner(store, now)
    serving = await replica.load()
    assert serving.version == 2
    for place in (0, 2):
        one, other = serving.state.policy.arms[place], old.serving.state.policy.arms[place]
        assert one.mean.tobytes() == other.mean.tobytes()
    leader = learner(store, now)
    serving = await leader.take_over()
    assert serving.version == 3
    np.testing.assert_array_equal(serving.state.rewards, [10.0, 0.0, 10.0])
    record = await store.latest_snapshot(POLICY.name)
    assert record is not None
    assert record.reason == "arms"
    assert (await leader.take_over()).version == 3
    # The replica hears of it and takes it up.
    serving = await replica.load()
    assert serving.version == 3
    assert in_bytes(serving.state, now) == record.payload


@pytest.mark.asyncio
async def test_a_log_of_retired_models_alone_does_not_stop_a_leader(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    await traffic.requests(30)
    renamed = make_problem(("one", "two"), feature_count=3)
    leader = learner(store, renamed)
    serving = await leader.take_over()
    assert serving.version == 1
    assert serving.state.rewards.sum() == 0.0
    # What was read is behind it.
    assert leader.progress.cursor > START
    assert not await leader.step()


@pytest.mark.asyncio
@pytest.mark.parametrize("payload", [b"", b"damaged"])
async def test_a_damaged_snapshot_is_replaced_by_a_fit_from_the_log(
    traffic: Traffic, store: PostgresLearnerStore, payload: bytes
) -> None:
    await traffic.requests(6)
    broken = SnapshotRecord(7, NOON, POLICY.name, "stats-1", (1, 1), "fold", payload)
    await store.write_snapshot(broken)
    leader = learner(store)
    serving = await leader.take_over()
    assert serving.version == 8
    assert serving.state.rewards.sum() == 6.0


@pytest.mark.asyncio
async def test_a_leader_with_another_prior_fits_anew_and_a_replica_serves_on_till_then(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    await traffic.requests(6)
    await learner(store).take_over()
    size = len(PROBLEM.feature_names)
    rng = np.random.default_rng(0)
    unknown = np.full((40, 3), np.nan)
    prior = OutcomePrior(
        models=PROBLEM.arms,
        extractor_version="stats-1",
        features=rng.normal(size=(40, size)),
        input_tokens=np.full(40, 20.0),
        reward=rng.uniform(0.0, 1.0, (40, 3)),
        cost_usd=unknown,
        latency_s=unknown,
        output_tokens=unknown,
        effective_rows=10.0,
        digest="another",
    )
    learning = learner(store, replace(PROBLEM, prior=prior))
    served = await learning.load()
    assert served.version == 1
    assert [arm.sums.weight for arm in served.state.policy.arms] == pytest.approx([2.0] * 3)
    taken = await learning.take_over()
    assert taken.version == 2
    assert [arm.sums.weight for arm in taken.state.policy.arms] == pytest.approx([12.0] * 3)
    again = learner(store, replace(PROBLEM, prior=prior))
    assert (await again.take_over()).version == 2
    assert in_bytes(again.serving.state) == in_bytes(taken.state)


@pytest.mark.asyncio
async def test_two_leaders_cannot_both_write_and_the_loser_takes_up_the_winners(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    one, other = learner(store), learner(store)
    await one.take_over()
    await other.load()
    await traffic.requests(3)
    assert await one.step()
    before = in_bytes(other.serving.state)
    with pytest.raises(SnapshotError, match="another learner wrote it"):
        await other.step()
    # What the loser folded is not served under a version that does not hold it.
    assert other.serving.version == 1
    assert in_bytes(other.serving.state) == before
    serving = await other.load()
    assert serving.version == 2
    assert in_bytes(serving.state) == in_bytes(one.serving.state)
    await traffic.requests(1)
    assert await other.step()
    assert other.serving.version == 3


@pytest.mark.asyncio
async def test_credit_goes_to_the_model_that_answered(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    learning = learner(store)
    await learning.take_over()
    decision = await traffic.decide()
    await traffic.score(decision, 0.875)
    assert await learning.step()
    np.testing.assert_array_equal(learning.serving.state.rewards, [1.0, 0.0, 0.0])
    # Feedback came first; only then is it known that a fallback answered.
    await traffic.answer(decision, "large")
    assert await learning.step()
    state = learning.serving.state
    np.testing.assert_array_equal(state.rewards, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(state.pulls, [0.0, 1.0, 0.0])
    cold = init_state(PROBLEM, POLICY).policy
    np.testing.assert_allclose(state.policy.means[0], cold.means[0], atol=1e-9)


@pytest.mark.asyncio
async def test_a_decision_whose_features_are_replaced_problem_wide_is_refitted(
    traffic: Traffic, store: PostgresLearnerStore
) -> None:
    await traffic.requests(4)
    wider = replace(
        PROBLEM,
        feature_names=("x0", "x1", "x2", "x3"),
        feature_blocks=(replace(PROBLEM.feature_blocks[0], stop=4),),
    )
    leader = learner(store, wider)
    serving = await leader.take_over()
    # No row fits any more: a cold state, and the log stays behind.
    assert serving.state.rewards.sum() == 0.0
    assert not await leader.step()
