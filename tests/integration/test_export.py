"""The log out of a real Postgres, page by page, as the evaluator takes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, make_decision, make_outcome

from bandit_router.cli import run
from bandit_router.errors import DataError
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.feedback_store import PostgresFeedbackStore
from bandit_router.types import Feedback, Mode, Reward
from simulations.logs.export import export_pages, join_pieces, moment
from simulations.logs.files import read_traffic

NOW = datetime(2026, 3, 8, tzinfo=UTC)


async def fill(engine: AsyncEngine, count: int) -> None:
    """``count`` decisions a minute apart: two in three with outcome, one in three with feedback."""
    decisions = [
        make_decision(
            NOON + timedelta(minutes=i),
            tenant="acme" if i % 2 else "other",
            mode=Mode.OVERRIDE if i == 5 else Mode.POLICY,
        )
        for i in range(count)
    ]
    async with PostgresDecisionLog(engine) as log:
        for decision in decisions:
            await log.record_decision(decision)
        for i, decision in enumerate(decisions):
            if i % 3:
                await log.record_outcome(make_outcome(decision), [])
    async with PostgresFeedbackStore(
        engine, lambda values: Reward(values["quality"], 1.0)
    ) as feedback:
        for value in (0.2, 0.75):
            for decision in decisions[::3]:
                await feedback.record_feedback(
                    Feedback(decision.id, "quality", value, NOON + timedelta(hours=2))
                )


@pytest.mark.asyncio
async def test_pages_carry_every_decision_once_with_its_last_reward(
    engine: AsyncEngine, store_url: str, tmp_path: Path
) -> None:
    await fill(engine, 31)
    seen: list[int] = []
    written = await export_pages(
        store_url, tmp_path, since=None, until=None, page_rows=7, on_rows=seen.append
    )
    assert (written, seen) == (31, [7, 7, 7, 7, 3])
    for suffix in ("parquet", "csv", "jsonl"):
        out = tmp_path / "joined" / f"log.{suffix}"
        out.parent.mkdir(exist_ok=True)
        join_pieces(tmp_path, out)
        frame, dropped = read_traffic(out)
        log = frame.collect()
        assert (dropped.read, dropped.kept, dropped.set_aside) == (31, 30, {"not_policy": 1})
        assert log["decision_id"].n_unique() == 30
        assert log["reward"].drop_nulls().to_list() == [0.75] * 11
        assert log["cost_usd"].null_count() == 11
        assert np.allclose(log["pmf"].to_list(), [0.75, 0.25, 0.0])
        assert np.allclose(log["features"].to_list(), [0.1, -2.5, 3.0])
        assert log["metadata"][0] == '{"task": "math"}'
        assert log["created_at"].is_sorted()


@pytest.mark.asyncio
async def test_a_span_of_time_and_a_tenant_narrow_the_export(
    engine: AsyncEngine, store_url: str, tmp_path: Path
) -> None:
    await fill(engine, 12)
    since, until = NOON + timedelta(minutes=3), NOON + timedelta(minutes=9)
    written = await export_pages(store_url, tmp_path, since=since, until=until, tenant="acme")
    times = pl.scan_parquet(tmp_path / "*.parquet").collect()["created_at"].to_list()
    assert written == 3
    assert times == [NOON + timedelta(minutes=m) for m in (3, 5, 7)]
    with pytest.raises(DataError, match="no decision in this time"):
        await export_pages(store_url, tmp_path, since=NOON + timedelta(days=1), until=None)


def test_the_command_tells_what_it_wrote_and_what_it_cannot(
    store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "log.parquet"
    assert run(["export", "--out", str(out), "--url", store_url]) == 2
    assert "no decision in this time" in capsys.readouterr().err
    assert not out.exists()
    assert run(["export", "--out", str(tmp_path / "log.xlsx"), "--url", store_url]) == 2
    assert "ends in" not in capsys.readouterr().out
    assert run(["export", "--out", str(out), "--url", store_url, "--since", "last week"]) == 2
    assert "'last week' is no time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", datetime(2026, 3, 1, tzinfo=UTC)),
        ("36h", datetime(2026, 3, 6, 12, tzinfo=UTC)),
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01T10:00+02:00", datetime(2026, 2, 1, 8, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_write_them(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected
