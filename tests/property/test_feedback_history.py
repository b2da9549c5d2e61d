"""Whatever order facts about a decision arrive in, the learner's input sums to the last word."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from store_samples import NOON, make_decision, make_outcome

from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.engine import make_engine
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.learner_store import START, PostgresLearnerStore
from bandit_router.types import Feedback, Reward

METRICS = ("thumbs", "stars")
ANSWERS = ("small", "large", "local", None)

outcome_events = st.tuples(st.just("outcome"), st.integers(0, 2), st.sampled_from(ANSWERS))
signal_events = st.tuples(
    st.sampled_from(METRICS),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, None]),
)
# A step's events are handed in at once and race; steps follow one another.
steps = st.lists(
    st.lists(st.one_of(signal_events, signal_events, outcome_events), min_size=1, max_size=4),
    max_size=8,
)


def combine(values: Mapping[str, float]) -> Reward | None:
    """The mean, which two metrics make twice as precise."""
    return Reward(sum(values.values()) / len(values), 0.5 * len(values)) if values else None


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=steps)
@pytest.mark.usefixtures("store_url")
def test_folding_the_log_gives_the_final_state(
    store_url: str, history: list[list[tuple[str, int, float | str | None]]]
) -> None:
    asyncio.run(check(store_url, history))


async def check(url: str, history: list[list[tuple[str, int, float | str | None]]]) -> None:
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE decisions, outcomes, attempts, feedback, rewards"))
    decisions = [make_decision() for _ in range(3)]
    # Two replicas, so that signals race in the database and not in one queue only.
    log = PostgresDecisionLog(engine)
    replicas = [PostgresFeedbackStore(engine, combine) for _ in range(2)]
    for decision in decisions:
        await log.record_decision(decision)
    for step in history:
        calls = []
        for turn, (kind, which, told) in enumerate(step):
            decision = decisions[which]
            if kind == "outcome":
                answered_by = told if isinstance(told, str) else None
                calls.append(log.record_outcome(make_outcome(decision, answered_by), []))
            else:
                value = told if isinstance(told, float) else None
                signal = Feedback(decision.id, kind, value, NOON)
                calls.append(replicas[turn % 2].record_feedback(signal))
        await asyncio.gather(*calls)
    for part in (log, *replicas):
        await part.close()

    # The naive account: the last value of each metric, on whoever answered.
    async with engine.connect() as connection:
        signals = await connection.execute(
            text("SELECT decision_id, metric, value FROM feedback ORDER BY id")
        )
        last: dict[object, dict[str, float | None]] = defaultdict(dict)
        for row in signals:
            last[row.decision_id][row.metric] = row.value
        ended = await connection.execute(text("SELECT decision_id, answered_by FROM outcomes"))
        answered = {row.decision_id: row.answered_by for row in ended}
    final = {}
    for decision in decisions:
        known = {m: v for m, v in last[decision.id].items() if v is not None}
        reward = combine(known)
        if reward is not None:
            final[decision.id, answered.get(decision.id) or decision.chosen] = reward

    store = PostgresLearnerStore(engine)
    batch = await store.learner_rows(START, 10_000)
    moments: dict[object, float] = defaultdict(float)
    weights: dict[object, float] = defaultdict(float)
    counts: dict[object, int] = defaultdict(int)
    for row in batch.observations:
        # Values and weights are multiples of 1/8, whose sums and products are exact.
        key = row.decision_id, row.arm
        if row.reward is not None:
            moments[key] += row.weight * row.reward
            weights[key] += row.weight
            counts[key] += 1
        if row.previous_reward is not None:
            moments[key] -= row.previous_weight * row.previous_reward
            weights[key] -= row.previous_weight
            counts[key] -= 1
    refit = await store.refit_rows(100)
    await engine.dispose()
    live = {key for key, count in counts.items() if count}
    assert {key: Reward(moments[key] / weights[key], weights[key]) for key in live} == final
    assert not any(moments[key] or weights[key] for key in counts if key not in live)
    assert set(counts.values()) <= {0, 1}
    assert refit.cursor == batch.cursor
    rewarded = [row for row in refit.observations if row.reward is not None]
    assert {
        (row.decision_id, row.arm): Reward(row.reward or 0.0, row.weight) for row in rewarded
    } == final
