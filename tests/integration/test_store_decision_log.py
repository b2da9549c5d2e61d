from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import make_attempt, make_decision, make_outcome

from bandit_router.errors import StoreError, StoreUnavailable, UnknownDecision
from bandit_router.store import migrate
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.engine import make_engine
from bandit_router.store.inspection_store import DecisionDetail, InspectionStore
from bandit_router.store.learner_store import START, PostgresLearnerStore
from bandit_router.types import AttemptStatus, Decision


def plain(value: Any) -> Any:
    """Dataclasses with arrays do not compare; lists do."""
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value


async def detail_of(engine: AsyncEngine, decision: Decision) -> DecisionDetail:
    found = await InspectionStore(engine).decision_detail(decision.id)
    assert found is not None
    return found


@pytest.mark.asyncio
async def test_a_decision_comes_back_as_it_went_in(engine: AsyncEngine) -> None:
    decision = make_decision(prompt={"messages": [{"role": "user", "content": "Grüß Gott 👋"}]})
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
    found = await PostgresLearnerStore(engine).decision(decision.id)
    assert plain(found) == plain(decision)
    assert found is not None
    assert not found.pmf.flags.writeable
    assert not found.features.flags.writeable


@pytest.mark.asyncio
async def test_an_outcome_its_attempts_and_its_learner_row_come_together(
    engine: AsyncEngine,
) -> None:
    decision = make_decision()
    failed = make_attempt(
        decision, 0, status=AttemptStatus.TIMEOUT, error="slow\0er", cost_usd=None
    )
    tried = [failed, make_attempt(decision, 1, model="large")]
    outcome = make_outcome(decision, "large", attempts=2)
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(outcome, tried)
    found = await detail_of(engine, decision)
    assert found.outcome == outcome
    assert found.attempts == (replace(failed, error="slow\ufffder"), tried[1])
    rows = (await PostgresLearnerStore(engine).learner_rows(START, 10)).observations
    assert [(row.arm, row.failed) for row in rows] == [("small", True), ("large", False)]
    assert (rows[0].cost_usd, rows[0].latency_s) == (None, None)
    row = rows[1]
    assert (row.reward, row.previous_reward) == (None, None)
    assert (row.cost_usd, row.latency_s, row.output_tokens) == (0.00021, 0.8, 34)
    assert row.features.tolist() == decision.features.tolist()
    assert (row.input_tokens, row.decision_seq) == (12, found.seq)


@pytest.mark.asyncio
async def test_an_outcome_waits_for_a_decision_that_is_still_being_stored(
    engine: AsyncEngine,
) -> None:
    made = [make_decision() for _ in range(20)]
    # Most of them wait for room in the queue first.
    async with PostgresDecisionLog(engine, queue_limit=5) as log:
        entering = [asyncio.create_task(log.record_decision(decision)) for decision in made]
        # The callers of these stop waiting; the rows are on their way all the same.
        await asyncio.sleep(0)
        for task in entering[:5]:
            task.cancel()
        await asyncio.gather(
            *(log.record_outcome(make_outcome(decision, "small"), []) for decision in made)
        )
        await asyncio.wait(entering)
    for decision in made:
        assert (await detail_of(engine, decision)).outcome is not None


@pytest.mark.asyncio
async def test_each_attempt_is_booked_to_its_own_model(engine: AsyncEngine) -> None:
    decision = make_decision()
    broken = AttemptStatus.STREAM_BROKEN
    tried = [
        make_attempt(decision, 0, status=broken, cost_usd=0.5),
        make_attempt(decision, 1, status=broken, cost_usd=0.25),
        make_attempt(decision, 2, model="large", status=broken, cost_usd=0.01),
        make_attempt(decision, 3, model="large", cost_usd=0.02),
    ]
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(make_outcome(decision, "large", cost_usd=0.78), tried)
    store = PostgresLearnerStore(engine)
    rows = (await store.learner_rows(START, 10)).observations
    assert [(row.arm, row.cost_usd, row.answered, row.failed) for row in rows] == [
        ("small", 0.75, False, True),
        ("large", 0.03, True, True),
    ]
    # A fit from scratch has the answer alone: a broken call says nothing of an answer's size.
    (final,) = (await store.refit_rows(10)).observations
    assert (final.arm, final.cost_usd, final.latency_s) == ("large", 0.03, 0.8)
    # What the whole chain took stays with the outcome.
    found = (await detail_of(engine, decision)).outcome
    assert found is not None
    assert found.cost_usd == 0.78


@pytest.mark.asyncio
async def test_a_chain_that_failed_teaches_that_its_models_did(engine: AsyncEngine) -> None:
    decision = make_decision()
    tried = [
        make_attempt(decision, 0, status=AttemptStatus.TIMEOUT, cost_usd=None),
        make_attempt(decision, 1, model="large", status=AttemptStatus.REJECTED, cost_usd=None),
    ]
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(make_outcome(decision, None, attempts=2, cost_usd=None), tried)
    store = PostgresLearnerStore(engine)
    (row,) = (await store.learner_rows(START, 10)).observations
    # A request that its upstream rejected says nothing of the model.
    assert (row.arm, row.failed, row.answered) == ("small", True, False)
    assert (await store.refit_rows(10)).observations == []


@pytest.mark.asyncio
async def test_a_chain_without_attempts_teaches_the_learner_nothing(engine: AsyncEngine) -> None:
    decision = make_decision()
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(make_outcome(decision, None), [])
    assert (await detail_of(engine, decision)).outcome == make_outcome(decision, None)
    assert not (await PostgresLearnerStore(engine).learner_rows(START, 10)).observations


@pytest.mark.asyncio
async def test_repeats_are_stored_once_and_the_first_outcome_stands(engine: AsyncEngine) -> None:
    decision = make_decision()
    async with PostgresDecisionLog(engine) as log:
        await asyncio.gather(*(log.record_decision(decision) for _ in range(3)))
        await log.record_outcome(make_outcome(decision, "small"), [make_attempt(decision)])
        await log.record_outcome(make_outcome(decision, "large"), [make_attempt(decision)])
    found = await detail_of(engine, decision)
    assert found.outcome == make_outcome(decision, "small")
    assert len(found.rewards) == len(found.attempts) == 1


@pytest.mark.asyncio
async def test_an_outcome_without_its_decision_is_refused_alone(engine: AsyncEngine) -> None:
    decision, unknown = make_decision(), make_decision()
    async with PostgresDecisionLog(engine) as log:
        results = await asyncio.gather(
            log.record_decision(decision),
            log.record_outcome(make_outcome(unknown), []),
            log.record_outcome(make_outcome(decision), []),
            return_exceptions=True,
        )
    assert results[0] is results[2] is None
    assert isinstance(results[1], UnknownDecision)
    assert str(unknown.id) in str(results[1])
    assert "x-router-decision-id" in str(results[1])


@pytest.mark.asyncio
async def test_a_poisoned_row_does_not_fail_its_neighbours(engine: AsyncEngine) -> None:
    good = [make_decision() for _ in range(20)]
    too_big = make_decision(input_tokens=2**40)
    odd = make_decision(features="no array")
    async with PostgresDecisionLog(engine) as log:
        rows = [*good[:7], too_big, *good[7:15], odd, *good[15:]]
        results = await asyncio.gather(
            *(log.record_decision(row) for row in rows), return_exceptions=True
        )
    refused = [row for row, result in zip(rows, results, strict=True) if result is not None]
    assert refused == [too_big, odd]
    assert all(isinstance(result, StoreError) for result in results if result is not None)
    store = PostgresLearnerStore(engine)
    assert all([await store.decision(row.id) for row in good])


@pytest.mark.asyncio
async def test_odd_characters_do_not_cost_the_decision(engine: AsyncEngine) -> None:
    decision = make_decision(
        session_id="a\0b", metadata={"ta\0sk": "\ud800"}, prompt=["\0", "\udfff", float("nan"), 1.5]
    )
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
    found = await PostgresLearnerStore(engine).decision(decision.id)
    assert found is not None
    assert found.session_id == "a\ufffdb"
    assert found.metadata == {"ta\ufffdsk": "?"}
    assert found.prompt == ["\ufffd", "?", None, 1.5]


@pytest.mark.asyncio
async def test_callers_share_transactions_and_the_queue_drains(engine: AsyncEngine) -> None:
    decisions = [make_decision() for _ in range(300)]
    log = PostgresDecisionLog(engine, group_limit=100)
    tasks = [asyncio.create_task(log.record_decision(decision)) for decision in decisions]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log.queue_depth > 100
    await log.close()
    assert log.queue_depth == 0
    await asyncio.gather(*tasks)
    async with engine.connect() as connection:
        shared = text("SELECT count(*), count(DISTINCT xmin::text) FROM decisions")
        stored, transactions = (await connection.execute(shared)).one()
    assert stored == 300
    assert transactions <= 5
    with pytest.raises(StoreUnavailable, match="closed"):
        await log.record_decision(make_decision())


@pytest.mark.asyncio
async def test_a_caller_who_goes_away_leaves_his_row_stored(engine: AsyncEngine) -> None:
    decision = make_decision()
    log = PostgresDecisionLog(engine)
    task = asyncio.create_task(log.record_decision(decision))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await log.close()
    assert await PostgresLearnerStore(engine).decision(decision.id) is not None


@pytest.mark.asyncio
async def test_cut_connections_are_replaced_without_the_caller_noticing(
    engine: AsyncEngine,
) -> None:
    async with PostgresDecisionLog(engine, retry_delays_s=(0.01,) * 20) as log:
        await log.record_decision(make_decision())
        async with engine.connect() as connection:
            cut = text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert await connection.scalar(cut) >= 1
        decision = make_decision()
        await log.record_decision(decision)
    assert await PostgresLearnerStore(engine).decision(decision.id) is not None


@pytest.mark.asyncio
async def test_a_database_that_goes_is_reported_and_met_again(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder).start()
    await migrate.upgrade(server.url)
    engine = make_engine(server.url)
    decision = make_decision()
    async with PostgresDecisionLog(engine, retry_delays_s=(0.01, 0.02)) as log:
        await log.record_decision(make_decision())
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="no database at"):
                await log.record_decision(decision)
        server.start()
        await log.record_decision(decision)
    assert await PostgresLearnerStore(engine).decision(decision.id) is not None
    await engine.dispose()
    server.stop()
