from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, first_value, make_decision, make_outcome

from bandit_router.errors import SnapshotError, StoreError, StoreUnavailable
from bandit_router.protocols import SnapshotRecord
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.engine import make_engine
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.leadership import LeaderLock
from bandit_router.store.learner_store import SNAPSHOTS_CHANNEL, START, PostgresLearnerStore
from bandit_router.store.notifications import Notification, Notifications
from bandit_router.store.reward_log import REWARDS_CHANNEL, learner_row
from bandit_router.store.tables import rewards
from bandit_router.types import Feedback, Reward

CUT_OTHERS = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def record(version: int, hours: float = 0, reason: str = "fold") -> SnapshotRecord:
    moment = NOON + timedelta(hours=hours)
    return SnapshotRecord(version, moment, "thompson", "stats-1", (5, version), reason, b"npz\0")


@pytest.mark.asyncio
async def test_a_row_that_commits_late_is_never_passed_over(engine: AsyncEngine) -> None:
    decision = make_decision()
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
    store = PostgresLearnerStore(engine)

    def row(reward: float) -> dict[str, object]:
        return learner_row(decision.id, "small", reward=Reward(reward))

    async with engine.connect() as slow, engine.connect() as quick:
        await slow.execute(insert(rewards), [row(0.25)])
        await quick.execute(insert(rewards), [row(0.5)])
        await quick.commit()
        # The quick row is there to see, but a row with a smaller number is still to come.
        seen = await store.learner_rows(START, 10)
        assert await quick.scalar(text("SELECT count(*) FROM rewards")) == 1
        assert (seen.observations, seen.cursor) == ([], START)
        assert (await store.refit_rows(10)).observations == []
        await slow.commit()
    seen = await store.learner_rows(seen.cursor, 10)
    assert [row.reward for row in seen.observations] == [0.25, 0.5]
    assert (await store.learner_rows(seen.cursor, 10)).observations == []


@pytest.mark.asyncio
async def test_pages_and_ranges_of_the_log_fit_together(engine: AsyncEngine) -> None:
    decisions = [make_decision() for _ in range(7)]
    async with PostgresDecisionLog(engine) as log:
        for decision in decisions:
            await log.record_decision(decision)
            await log.record_outcome(make_outcome(decision), [])
    store = PostgresLearnerStore(engine)
    cursors, paged = [START], []
    while (batch := await store.learner_rows(cursors[-1], 3)).observations:
        cursors.append(batch.cursor)
        paged += [row.decision_id for row in batch.observations]
    assert paged == [decision.id for decision in decisions]
    between = await store.rows_between(cursors[1], cursors[2])
    assert [row.decision_id for row in between] == paged[3:6]
    assert await store.rows_between(cursors[2], cursors[2]) == []


@pytest.mark.asyncio
async def test_rows_of_dropped_decisions_do_not_stop_the_learner(engine: AsyncEngine) -> None:
    decision = make_decision()
    async with engine.begin() as connection:
        gone = [learner_row(make_decision().id, "small", reward=Reward(1.0)) for _ in range(3)]
        await connection.execute(insert(rewards), gone)
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(make_outcome(decision), [])
    store = PostgresLearnerStore(engine)
    first = await store.learner_rows(START, 3)
    assert first.observations == []
    assert first.cursor > START
    second = await store.learner_rows(first.cursor, 3)
    assert [row.decision_id for row in second.observations] == [decision.id]


@pytest.mark.asyncio
async def test_a_cursor_from_another_server_is_refused_with_a_remedy(engine: AsyncEngine) -> None:
    with pytest.raises(StoreError, match=r"restored from a dump.*pg_resetwal"):
        await PostgresLearnerStore(engine).learner_rows((2**40, 1), 10)


@pytest.mark.asyncio
async def test_refit_rows_tell_what_is_finally_known(engine: AsyncEngine) -> None:
    late, moved, silent, costly = decisions = [make_decision() for _ in range(4)]
    store = PostgresLearnerStore(engine)
    async with (
        PostgresDecisionLog(engine) as log,
        PostgresFeedbackStore(engine, first_value) as signals,
    ):
        for decision in decisions:
            await log.record_decision(decision)
        await signals.record_feedback(Feedback(moved.id, "stars", 0.5, NOON))
        await log.record_outcome(make_outcome(moved, "large", cost_usd=0.5), [])
        before = (await store.learner_rows(START, 100)).cursor
        await signals.record_feedback(Feedback(moved.id, "stars", 1.0, NOON))
        await signals.record_feedback(Feedback(late.id, "stars", 0.25, NOON))
        await log.record_outcome(make_outcome(costly), [])

    def told(rows: object) -> set[tuple[object, ...]]:
        return {(r.decision_id, r.arm, r.reward, r.cost_usd, r.latency_s) for r in rows}  # type: ignore[attr-defined]

    now = await store.refit_rows(100)
    assert told(now.observations) == {
        (late.id, "small", 0.25, None, None),
        (moved.id, "large", 1.0, 0.5, 0.8),
        (costly.id, "small", None, 0.00021, 0.8),
    }
    assert silent.id not in {row.decision_id for row in now.observations}
    assert now.cursor == (await store.learner_rows(START, 100)).cursor
    sequence = [row.decision_seq for row in now.observations]
    assert sequence == sorted(sequence)
    assert all(row.previous_reward is None for row in now.observations)
    then = await store.refit_rows(100, before)
    assert told(then.observations) == {(moved.id, "large", 0.5, 0.5, 0.8)}
    assert then.cursor == before
    assert now.observations[0].features.dtype == np.float64
    assert {row.extractor_version for row in now.observations} == {late.extractor_version}


@pytest.mark.asyncio
async def test_a_fit_says_how_far_back_it_reaches(engine: AsyncEngine) -> None:
    store = PostgresLearnerStore(engine)
    async with PostgresDecisionLog(engine) as log:
        for decision in sorted((make_decision() for _ in range(4)), key=lambda made: made.id):
            await log.record_decision(decision)
            await log.record_outcome(make_outcome(decision), [])
    whole, newest = await store.refit_rows(4), await store.refit_rows(3)
    assert whole.since == 0
    assert newest.since == newest.observations[0].decision_seq
    assert len(newest.observations) == 3


@pytest.mark.asyncio
async def test_snapshots_are_kept_by_version_and_announced(engine: AsyncEngine) -> None:
    store = PostgresLearnerStore(engine)
    assert await store.latest_snapshot("thompson") is None
    async with Notifications(engine, [SNAPSHOTS_CHANNEL]) as heard:
        assert await anext(heard) == Notification(SNAPSHOTS_CHANNEL, "")
        for version in (1, 2, 10):
            await store.write_snapshot(record(version))
        told = [await anext(heard) for _ in range(3)]
    assert [notification.payload for notification in told] == [
        "1 thompson",
        "2 thompson",
        "10 thompson",
    ]
    assert await store.latest_snapshot("thompson") == record(10)
    assert await store.latest_snapshot("thompson", known=2) == record(10)
    assert await store.latest_snapshot("thompson", known=10) is None
    assert await store.snapshot("thompson", 2) == record(2)
    assert await store.snapshot("thompson", 3) is None
    assert await store.latest_snapshot("linucb") is None
    with pytest.raises(SnapshotError, match="another learner"):
        await store.write_snapshot(record(10))


@pytest.mark.asyncio
async def test_thinning_keeps_the_newest_one_a_day_and_the_base(engine: AsyncEngine) -> None:
    store = PostgresLearnerStore(engine)
    # Noon of day 0 on, one every six hours; 3 and 9 are full fits.
    for version in range(1, 15):
        reason = "refit" if version in (3, 9) else "fold"
        await store.write_snapshot(record(version, 6 * version, reason))
    assert await store.thin_snapshots("thompson", 3) == 7
    left = [s.version for s in await InspectionStore(engine).snapshots("thompson")]
    # 12 to 14 are the newest, 9 is what they build on, 1, 5 and 11 are the last of their days.
    assert left == [14, 13, 12, 11, 9, 5, 1]
    assert await store.thin_snapshots("thompson", 3) == 0


@pytest.mark.asyncio
async def test_one_leader_at_a_time_and_the_next_when_it_dies(engine: AsyncEngine) -> None:
    first, second = LeaderLock(engine), LeaderLock(engine)
    assert not await first.held()
    assert await first.acquire()
    assert await first.acquire()
    assert not await second.acquire()
    async with engine.connect() as connection:
        await connection.execute(CUT_OTHERS)
    assert not await first.held()
    assert await second.acquire()
    assert not await first.acquire()
    await second.release()
    await second.release()
    assert await first.acquire()
    await first.release()
    assert not await first.held()


@pytest.mark.asyncio
async def test_the_learner_hears_of_new_rows_once_a_group(engine: AsyncEngine) -> None:
    decisions = [make_decision() for _ in range(50)]
    async with PostgresDecisionLog(engine) as log:
        await asyncio.gather(*(log.record_decision(decision) for decision in decisions))
        async with Notifications(engine, [REWARDS_CHANNEL]) as heard:
            await anext(heard)
            await asyncio.gather(*(log.record_outcome(make_outcome(d), []) for d in decisions))
            assert await anext(heard) == Notification(REWARDS_CHANNEL, "")
            await PostgresLearnerStore(engine).write_snapshot(record(1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(anext(heard))), 0.2)


@pytest.mark.asyncio
async def test_listening_survives_a_cut_connection(engine: AsyncEngine) -> None:
    store = PostgresLearnerStore(engine)
    async with Notifications(engine, [SNAPSHOTS_CHANNEL], reconnect_s=0.01) as heard:
        assert (await anext(heard)).payload == ""
        async with engine.connect() as connection:
            assert await connection.scalar(CUT_OTHERS) >= 1
        # Connected anew: whatever was sent meanwhile must be looked for.
        assert (await anext(heard)).payload == ""
        await store.write_snapshot(record(3))
        assert (await anext(heard)).payload == "3 thompson"


@pytest.mark.asyncio
async def test_without_a_database_everything_says_so() -> None:
    engine = make_engine("postgresql://router:secret@127.0.0.1:9/none")
    store = PostgresLearnerStore(engine)
    log = PostgresDecisionLog(engine, retry_delays_s=(0.01, 0.01))
    for call in (
        store.learner_rows(START, 1),
        LeaderLock(engine).acquire(),
        Notifications(engine, ["any"]).start(),
        log.record_decision(make_decision()),
    ):
        with pytest.raises(StoreUnavailable, match="no database at") as caught:
            await call
        assert "secret" not in str(caught.value)
    await log.close()
    await engine.dispose()
