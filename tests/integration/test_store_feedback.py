from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, make_decision, make_outcome

from bandit_router.errors import IdempotencyConflict, InvalidFeedback, StoreError, UnknownDecision
from bandit_router.protocols import FeedbackReceipt
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.learner_store import START, PostgresLearnerStore
from bandit_router.types import Decision, Feedback, Reward


def mean(values: Mapping[str, float]) -> Reward | None:
    return Reward(sum(values.values()) / len(values), float(len(values))) if values else None


@pytest_asyncio.fixture
async def log(engine: AsyncEngine) -> AsyncIterator[PostgresDecisionLog]:
    async with PostgresDecisionLog(engine) as made:
        yield made


@pytest_asyncio.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[PostgresFeedbackStore]:
    async with PostgresFeedbackStore(engine, mean) as made:
        yield made


@pytest_asyncio.fixture
async def decision(log: PostgresDecisionLog) -> Decision:
    made = make_decision()
    await log.record_decision(made)
    return made


def signal(
    decision: Decision, value: float | None, metric: str = "stars", **more: object
) -> Feedback:
    return Feedback(decision.id, metric, value, NOON, **more)  # type: ignore[arg-type]


async def learned(engine: AsyncEngine) -> list[tuple[str, float | None, float | None]]:
    """The learner's reward rows, without those that carry an outcome's cost."""
    rows = (await PostgresLearnerStore(engine).learner_rows(START, 1000)).observations
    return [(row.arm, row.previous_reward, row.reward) for row in rows if row.cost_usd is None]


@pytest.mark.asyncio
async def test_a_signal_is_recorded_revised_and_retracted(
    engine: AsyncEngine, store: PostgresFeedbackStore, decision: Decision
) -> None:
    states = []
    for value in (0.5, 0.5, 1.0, None, None, 0.25):
        receipt = await store.record_feedback(signal(decision, value))
        states.append((receipt.state, receipt.reward))
    assert states == [
        ("recorded", 0.5),
        ("duplicate", 0.5),
        ("revised", 1.0),
        ("retracted", None),
        ("duplicate", None),
        ("revised", 0.25),
    ]
    assert await learned(engine) == [
        ("small", None, 0.5),
        ("small", 0.5, 1.0),
        ("small", 1.0, None),
        ("small", None, 0.25),
    ]
    detail = await InspectionStore(engine).decision_detail(decision.id)
    assert detail is not None
    assert [entry.feedback.value for entry in detail.feedback] == [0.5, 0.5, 1.0, None, None, 0.25]
    assert detail.reward == 0.25


@pytest.mark.asyncio
async def test_several_metrics_make_one_reward(
    engine: AsyncEngine, store: PostgresFeedbackStore, decision: Decision
) -> None:
    await store.record_feedback(signal(decision, 1.0, "thumbs"))
    assert (await store.record_feedback(signal(decision, 0.5))).reward == 0.75
    assert (await store.record_feedback(signal(decision, None, "thumbs"))).reward == 0.5
    assert await learned(engine) == [
        ("small", None, 1.0),
        ("small", 1.0, 0.75),
        ("small", 0.75, 0.5),
    ]


@pytest.mark.asyncio
async def test_credit_goes_to_the_model_that_answered(
    engine: AsyncEngine, log: PostgresDecisionLog, store: PostgresFeedbackStore, decision: Decision
) -> None:
    await log.record_outcome(make_outcome(decision, "large"), [])
    await store.record_feedback(signal(decision, 1.0))
    assert await learned(engine) == [("large", None, 1.0)]


@pytest.mark.asyncio
async def test_a_later_outcome_moves_the_reward(
    engine: AsyncEngine, log: PostgresDecisionLog, store: PostgresFeedbackStore, decision: Decision
) -> None:
    await store.record_feedback(signal(decision, 1.0))
    await log.record_outcome(make_outcome(decision, "large"), [])
    await store.record_feedback(signal(decision, 0.5))
    assert await learned(engine) == [
        ("small", None, 1.0),
        ("small", 1.0, None),
        ("large", None, 1.0),
        ("large", 1.0, 0.5),
    ]


@pytest.mark.asyncio
async def test_an_idempotency_key_repeats_the_first_receipt(
    engine: AsyncEngine, store: PostgresFeedbackStore, decision: Decision
) -> None:
    keyed = signal(decision, 0.5, idempotency_key="k" * 256, source="app", tags={"a": "1"})
    first = await store.record_feedback(keyed)
    receipts = await asyncio.gather(*(store.record_feedback(keyed) for _ in range(5)))
    assert first.state == "recorded"
    assert set(receipts) == {FeedbackReceipt(first.feedback_id, "duplicate", 0.5)}
    detail = await InspectionStore(engine).decision_detail(decision.id)
    assert detail is not None
    assert len(detail.feedback) == 1


@pytest.mark.asyncio
async def test_a_key_with_another_body_conflicts_and_with_another_source_does_not(
    store: PostgresFeedbackStore, decision: Decision
) -> None:
    await store.record_feedback(signal(decision, 0.5, idempotency_key="k", source="app"))
    for other in (
        signal(decision, 0.75, idempotency_key="k", source="app"),
        signal(decision, 0.5, idempotency_key="k", source="app", comment="more"),
        signal(decision, 0.5, "thumbs", idempotency_key="k", source="app"),
    ):
        with pytest.raises(IdempotencyConflict, match="another body"):
            await store.record_feedback(other)
    other_source = signal(decision, 0.75, idempotency_key="k", source="console")
    assert (await store.record_feedback(other_source)).state == "revised"


@pytest.mark.asyncio
async def test_replicas_that_race_for_a_key_let_one_through(
    engine: AsyncEngine, log: PostgresDecisionLog
) -> None:
    decisions = [make_decision() for _ in range(8)]
    await asyncio.gather(*(log.record_decision(decision) for decision in decisions))
    replicas = [PostgresFeedbackStore(engine, mean) for _ in decisions]
    results = await asyncio.gather(
        *(
            replica.record_feedback(signal(decision, 0.5, idempotency_key="one"))
            for replica, decision in zip(replicas, decisions, strict=True)
        ),
        return_exceptions=True,
    )
    for replica in replicas:
        await replica.close()
    conflicts = [result for result in results if isinstance(result, IdempotencyConflict)]
    recorded = [result for result in results if isinstance(result, FeedbackReceipt)]
    assert len(conflicts) == 7
    assert [receipt.state for receipt in recorded] == ["recorded"]


@pytest.mark.asyncio
async def test_replicas_that_share_decisions_do_not_deadlock(
    engine: AsyncEngine, log: PostgresDecisionLog
) -> None:
    decisions = [make_decision() for _ in range(20)]
    await asyncio.gather(*(log.record_decision(decision) for decision in decisions))
    replicas = [PostgresFeedbackStore(engine, mean) for _ in range(4)]
    calls = []
    for turn in range(10):
        for number, replica in enumerate(replicas):
            order = decisions if number % 2 else decisions[::-1]
            calls += [replica.record_feedback(signal(d, (turn + number) % 5 / 4)) for d in order]
    calls += [log.record_outcome(make_outcome(d, "large"), []) for d in decisions[::-1]]
    await asyncio.gather(*calls)
    for replica in replicas:
        await replica.close()
    sums = {}
    for row in (await PostgresLearnerStore(engine).learner_rows(START, 10_000)).observations:
        change = (row.reward or 0.0) - (row.previous_reward or 0.0)
        sums[row.decision_id, row.arm] = sums.get((row.decision_id, row.arm), 0.0) + change
    for decision in decisions:
        detail = await InspectionStore(engine).decision_detail(decision.id)
        assert detail is not None
        assert sums.get((decision.id, "small"), 0.0) == 0.0
        assert sums[decision.id, "large"] == detail.feedback[-1].feedback.value


@pytest.mark.asyncio
async def test_bad_signals_are_refused_alone(
    engine: AsyncEngine, store: PostgresFeedbackStore, decision: Decision
) -> None:
    stranger = make_decision()
    results = await asyncio.gather(
        store.record_feedback(signal(stranger, 1.0)),
        store.record_feedback(signal(decision, float("nan"))),
        store.record_feedback(signal(decision, 1.0, idempotency_key="k" * 257)),
        store.record_feedback(signal(decision, 1.0, "st\0ars")),
        store.record_feedback(signal(decision, 1.0, tags="no mapping")),
        store.record_feedback(signal(decision, 1.0, comment="fine \0 \ud800")),
        return_exceptions=True,
    )
    kinds = [UnknownDecision, *[InvalidFeedback] * 3, StoreError, FeedbackReceipt]
    assert [type(result) for result in results] == kinds
    assert str(stranger.id) in str(results[0])
    assert "nan" in str(results[1])
    assert "257" in str(results[2])
    detail = await InspectionStore(engine).decision_detail(decision.id)
    assert detail is not None
    assert [entry.feedback.comment for entry in detail.feedback] == ["fine \ufffd ?"]
