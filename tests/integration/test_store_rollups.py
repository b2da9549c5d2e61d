"""The sums are the log's own: compared with a scan, whenever the facts came and whoever died."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, make_attempt, make_decision, make_outcome

from bandit_router.errors import StoreError
from bandit_router.store import rollups as rollups_module
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.store.rollup_reads import RollupReads, Span, _parts
from bandit_router.store.rollups import Rollups
from bandit_router.types import Feedback, Mode, Reward

MODELS = text(
    "SELECT model, sum(considered) AS considered, sum(eligible) AS eligible, "
    "sum(decisions) AS decisions, sum(answers) AS answers, sum(fallbacks) AS fallbacks, "
    "sum(failures) AS failures, sum(cost_usd) AS cost_usd, sum(rewards) AS rewards, "
    "sum(reward_sum) AS reward_sum, sum(low_rewards) AS low_rewards, sum(looks) AS looks, "
    "sum(escalations) AS escalations, sum(exploration_usd) AS exploration_usd "
    "FROM rollup_models WHERE width_s = :width_s GROUP BY model ORDER BY model"
)
SCAN = text(
    """
    WITH final AS (
        SELECT DISTINCT ON (decision_id) decision_id, arm, reward FROM rewards
        WHERE reward IS NOT NULL OR previous_reward IS NOT NULL
        ORDER BY decision_id, seq DESC
    )
    SELECT m.model,
        (SELECT count(*) FROM decisions d WHERE d.chosen = m.model) AS decisions,
        (SELECT count(*) FROM outcomes o WHERE o.answered_by = m.model) AS answers,
        (SELECT coalesce(sum(o.cost_usd), 0) FROM outcomes o JOIN decisions d
         ON d.id = o.decision_id WHERE coalesce(o.answered_by, d.chosen) = m.model) AS cost_usd,
        (SELECT count(*) FROM outcomes o JOIN decisions d ON d.id = o.decision_id
         WHERE d.chosen = m.model AND o.answered_by <> d.chosen) AS fallbacks,
        (SELECT count(reward) FROM final f WHERE f.arm = m.model) AS rewards,
        (SELECT coalesce(sum(reward), 0) FROM final f WHERE f.arm = m.model) AS reward_sum,
        (SELECT count(*) FROM final f WHERE f.arm = m.model AND reward < 0.5) AS low_rewards
    FROM (VALUES ('large'), ('local'), ('small')) m (model) ORDER BY m.model
    """
)
BINS = text(
    "SELECT kind, sum(entries) AS entries FROM rollup_bins WHERE width_s = 60 GROUP BY kind"
)


def first_value(values: Any) -> Reward | None:
    return next((Reward(value) for value in values.values()), None)


async def rows(engine: AsyncEngine, query: Any, **parameters: Any) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        found = (await connection.execute(query, parameters)).mappings().all()
    return [dict(row) for row in found]


async def catch_up(rollups: Rollups) -> None:
    while (await rollups.step(NOON)).behind:
        pass


async def same_as_a_scan(engine: AsyncEngine, widths: tuple[int, ...]) -> None:
    scanned = await rows(engine, SCAN)
    for width_s in widths:
        kept = {row["model"]: row for row in await rows(engine, MODELS, width_s=width_s)}
        for told in scanned:
            for name, value in told.items():
                if name != "model":
                    found = float(kept[told["model"]][name])
                    assert found == pytest.approx(float(value), abs=1e-9), (width_s, name)


@pytest.mark.asyncio
async def test_sums_equal_a_scan_of_the_log_however_late_and_often_feedback_comes(
    engine: AsyncEngine,
) -> None:
    rng = random.Random(5)
    rollups = Rollups(engine, ["task"], step_rows=7)
    waiting = []
    made = []
    async with (
        PostgresDecisionLog(engine) as log,
        PostgresFeedbackStore(engine, first_value) as feedback,
    ):
        for turn in range(120):
            moment = NOON - timedelta(seconds=rng.uniform(0, 3000))
            decision = make_decision(moment, chosen=rng.choice(["small", "large"]))
            await log.record_decision(decision)
            made.append(decision)
            waiting.append(decision)
            if rng.random() < 0.8:
                ended = waiting.pop(rng.randrange(len(waiting)))
                answered_by = rng.choice(["small", "large", "local", None])
                await log.record_outcome(
                    make_outcome(ended, answered_by, cost_usd=rng.random()), [make_attempt(ended)]
                )
            for _ in range(rng.randrange(3)):
                value = rng.choice([None, rng.random()])
                await feedback.record_feedback(
                    Feedback(rng.choice(made).id, "quality", value, NOON)
                )
            if turn % 10 == 3:
                await rollups.step(NOON)
    await catch_up(rollups)
    await same_as_a_scan(engine, (5, 60, 3600, 86_400))
    span = Span(60, NOON - timedelta(hours=40), NOON + timedelta(minutes=1))
    assert sum(part.sums.decisions for part in await RollupReads(engine).totals(span)) == 120
    (judged,) = await rows(
        engine, text("SELECT count(*) FROM rewards WHERE reward IS NOT NULL"), width_s=60
    )
    assert judged["count"] > 30
    counts = {row["kind"]: row["entries"] for row in await rows(engine, BINS)}
    (kept,) = await rows(
        engine,
        text("SELECT sum(answers) AS a, sum(rewards) AS r FROM rollup_models WHERE width_s = 60"),
    )
    assert counts == {"latency": kept["a"], "first_token": kept["a"], "reward": kept["r"]}


@pytest.mark.asyncio
async def test_hand_worked_numbers_of_one_decision(engine: AsyncEngine) -> None:
    # An even mixture of the policy's (1, 0, 0) with a look at the second arm of probability .05,
    # over floors of .01 and .02: pmf = .95 · (.01 + .97, .02, 0) + (0, .05, 0).
    decision = make_decision(pmf=np.array([0.931, 0.069, 0.0]), chosen="large", propensity=0.069)
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        await log.record_outcome(
            make_outcome(decision, "small", cost_usd=0.5), [make_attempt(decision)]
        )
    await catch_up(Rollups(engine, []))
    large, local, small = await rows(engine, MODELS, width_s=5)
    assert (large["decisions"], large["looks"], large["escalations"]) == (1, 1, 1)
    assert (large["fallbacks"], large["answers"], small["answers"]) == (1, 0, 1)
    assert (small["eligible"], large["eligible"], local["eligible"]) == (1, 1, 0)
    assert float(small["cost_usd"]) == 0.5
    # (pmf − policy's pmf) · predicted cost: (.931 − 1) · 1e-5 and .069 · 2e-3.
    assert small["exploration_usd"] == pytest.approx(-0.069e-5)
    assert large["exploration_usd"] == pytest.approx(0.069 * 2e-3)


@pytest.mark.asyncio
async def test_a_step_that_dies_half_way_leaves_nothing_and_is_taken_again(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PostgresDecisionLog(engine) as log:
        for _ in range(5):
            decision = make_decision()
            await log.record_decision(decision)
            await log.record_outcome(make_outcome(decision), [make_attempt(decision)])
    rollups = Rollups(engine, [])
    monkeypatch.setattr(rollups_module, "MOVE_CURSOR", text("SELECT 1 / 0"))
    with pytest.raises(StoreError):
        await rollups.step(NOON)
    assert await rows(engine, MODELS, width_s=60) == []
    monkeypatch.undo()
    # Two that believe to be the leader: the lock on the cursor makes one wait for the other.
    await asyncio.gather(*(rollups.step(NOON) for _ in range(4)))
    assert [row["answers"] for row in await rows(engine, MODELS, width_s=60)] == [0, 0, 5]


@pytest.mark.asyncio
async def test_a_transaction_that_commits_late_is_not_passed_over(engine: AsyncEngine) -> None:
    rollups = Rollups(engine, [])
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(make_decision())
        async with engine.connect() as slow:
            await slow.execute(
                text("INSERT INTO rollup_segment_names (segment) VALUES ('an open transaction')")
            )
            late = make_decision()
            await log.record_decision(late)
            await rollups.step(NOON)
            before = await rows(engine, MODELS, width_s=60)
            await slow.rollback()
    await rollups.step(NOON)
    after = await rows(engine, MODELS, width_s=60)
    assert [row["decisions"] for row in before] == [0, 0, 1]
    assert [row["decisions"] for row in after] == [0, 0, 2]


@pytest.mark.asyncio
async def test_callers_cannot_make_segments_without_end(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups_module, "MOST_SEGMENTS", 3)
    async with PostgresDecisionLog(engine) as log:
        for number in range(20):
            await log.record_decision(
                make_decision(metadata={"task": f"<b>{number}</b>", "unnamed": "x"})
            )
    await catch_up(Rollups(engine, ["task"]))
    found = await rows(
        engine,
        text(
            "SELECT segment, sum(decisions) AS n FROM rollup_segments WHERE width_s = 60 "
            "GROUP BY segment"
        ),
    )
    counts = {row["segment"]: row["n"] for row in found}
    assert len(counts) <= 5
    assert sum(n for name, n in counts.items() if name.startswith("task=")) == 20
    assert counts["task=(other)"] >= 17


@pytest.mark.asyncio
async def test_buckets_too_old_for_their_width_are_neither_made_nor_kept(
    engine: AsyncEngine,
) -> None:
    rollups = Rollups(engine, [])
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(make_decision(NOON - timedelta(hours=3), mode=Mode.STICKY))
        await log.record_decision(make_decision(NOON))
    await catch_up(rollups)
    total = {w: (await rows(engine, MODELS, width_s=w))[2]["decisions"] for w in (5, 60, 3600)}
    assert total == {5: 1, 60: 2, 3600: 2}
    assert await rollups.thin(NOON + timedelta(days=3)) > 0
    assert await rows(engine, MODELS, width_s=5) == await rows(engine, MODELS, width_s=60) == []
    assert (await rows(engine, MODELS, width_s=3600))[2]["decisions"] == 2


def test_a_span_is_cut_into_few_parts_that_cover_it_once() -> None:
    since, until = NOON - timedelta(days=3, minutes=7), NOON + timedelta(minutes=1)
    parts = _parts(since, until, (60, 3600, 86_400))
    assert [width_s for width_s, _, _ in parts] == [60, 3600, 86_400, 3600, 60]
    assert parts[0][1] == since
    assert parts[-1][2] == until
    assert all(end == begin for (_, _, end), (_, begin, _) in pairwise(parts))
    for width_s, begin, end in parts:
        assert begin.timestamp() % width_s == 0
        assert (end - begin).total_seconds() % width_s == 0
    assert _parts(NOON, NOON + timedelta(seconds=30), (5, 60)) == [
        (5, NOON, NOON + timedelta(seconds=30))
    ]
    assert _parts(NOON, NOON, (5, 60)) == []
