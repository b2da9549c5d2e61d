"""A source that is set aside leaves no trace in the learner's input, also not of what it said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, first_value, make_decision

from bandit_router import trust
from bandit_router.config import FeedbackConfig
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.learner_store import START, PostgresLearnerStore
from bandit_router.store.source_table import SourceTable
from bandit_router.types import Decision, Feedback

LEDGER = partial(trust.open_ledger, config=FeedbackConfig())


@pytest_asyncio.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[PostgresFeedbackStore]:
    async with PostgresFeedbackStore(engine, first_value, LEDGER) as made:
        yield made


@pytest_asyncio.fixture
async def decisions(engine: AsyncEngine) -> list[Decision]:
    """Sixty decisions for ``small``, of predicted quality 0.6."""
    made = [make_decision() for _ in range(60)]
    async with PostgresDecisionLog(engine) as log:
        for decision in made:
            await log.record_decision(decision)
    return made


def signal(decision: Decision, value: float, source: str) -> Feedback:
    return Feedback(decision.id, "quality", value, NOON, source=source)


async def final_rewards(engine: AsyncEngine) -> dict[object, float]:
    """What folding the log gives, per decision that has a reward: Σ weight·reward."""
    batch = await PostgresLearnerStore(engine).learner_rows(START, 10_000)
    sums: dict[object, float] = defaultdict(float)
    live: dict[object, int] = defaultdict(int)
    for row in batch.observations:
        sums[row.decision_id] += row.weight * row.reward if row.reward is not None else 0.0
        live[row.decision_id] += row.reward is not None
        if row.previous_reward is not None:
            sums[row.decision_id] -= row.previous_weight * row.previous_reward
            live[row.decision_id] -= 1
    return {key: sums[key] for key, count in live.items() if count}


@pytest.mark.asyncio
async def test_a_poisoned_key_is_set_aside_and_its_word_taken_out_again(
    engine: AsyncEngine, store: PostgresFeedbackStore, decisions: list[Decision]
) -> None:
    for i, decision in enumerate(decisions[:40]):
        await store.record_feedback(signal(decision, 0.55 + 0.1 * (i % 2), "app"))
    honest = await final_rewards(engine)
    # It also speaks of decisions that others judged: its word does not replace theirs for good.
    for decision in decisions[20:]:
        await store.record_feedback(signal(decision, 0.0, "evil"))
    await store.flush()
    assert await final_rewards(engine) == honest
    (app, evil) = await SourceTable(engine).reports()
    assert (app.source, app.verdict) == ("app", None)
    assert evil.verdict is not None
    assert evil.verdict.quarantined
    assert evil.verdict.settled
    assert not evil.verdict.by_operator
    assert "signals of 'quality' on small are -0.60 beside the 40 of all others" in (
        evil.verdict.reason
    )
    assert evil.signals == 40.0
    # What it says from now on is kept, and counts for nothing.
    receipt = await store.record_feedback(signal(decisions[50], 1.0, "evil"))
    assert receipt.state == "revised"
    assert receipt.reward is None
    assert await final_rewards(engine) == honest


@pytest.mark.asyncio
async def test_an_operator_may_release_a_source_and_its_word_counts_again(
    engine: AsyncEngine, store: PostgresFeedbackStore, decisions: list[Decision]
) -> None:
    for decision in decisions[:35]:
        await store.record_feedback(signal(decision, 0.6, "app"))
    for decision in decisions[35:]:
        await store.record_feedback(signal(decision, 0.1, "strict"))
    await store.flush()
    assert len(await final_rewards(engine)) == 35
    table = SourceTable(engine)
    await table.decide("strict", quarantined=False, reason="a grader we know", now=NOON)
    await store.record_feedback(signal(decisions[0], 0.6, "app"))
    await store.flush()
    assert len(await final_rewards(engine)) == 60
    verdicts = {report.source: report.verdict for report in await table.reports()}
    assert verdicts["strict"] is not None
    assert verdicts["strict"].by_operator
    assert verdicts["strict"].settled


@pytest.mark.asyncio
async def test_an_operator_may_set_a_source_aside(
    engine: AsyncEngine, store: PostgresFeedbackStore, decisions: list[Decision]
) -> None:
    for decision in decisions[:10]:
        await store.record_feedback(signal(decision, 0.6, "intern"))
    await SourceTable(engine).decide("intern", quarantined=True, reason="test data", now=NOON)
    await store.record_feedback(signal(decisions[10], 0.6, "app"))
    await store.flush()
    assert set(await final_rewards(engine)) == {decisions[10].id}


@pytest.mark.asyncio
async def test_a_verdict_that_was_not_carried_out_is_taken_up_by_the_next_replica(
    engine: AsyncEngine, store: PostgresFeedbackStore, decisions: list[Decision]
) -> None:
    for decision in decisions[:10]:
        await store.record_feedback(signal(decision, 0.6, "intern"))
    # As a replica leaves it that dies between the verdict and its settling.
    await SourceTable(engine).decide("intern", quarantined=True, reason="test data", now=NOON)
    assert len(await final_rewards(engine)) == 10
    async with PostgresFeedbackStore(engine, first_value, LEDGER) as other:
        await other.record_feedback(signal(decisions[10], 0.6, "app"))
    assert set(await final_rewards(engine)) == {decisions[10].id}
