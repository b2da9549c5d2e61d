"""``evaluate`` straight from the database of a real service: its own log, its own snapshots."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import Process, eventually, service_process
from sqlalchemy import text

from bandit_router.cli import run
from bandit_router.store.engine import make_engine
from simulations.faults.misbehaving import answer, misbehaving
from simulations.notebook import evaluate

CONFIG = """
[[models]]
name = "small"
base_url = "{base_url}"
input_usd_per_million = 1.0
output_usd_per_million = 2.0

[[models]]
name = "large"
base_url = "{base_url}"
input_usd_per_million = 2.0
output_usd_per_million = 4.0

[policy]
name = "thompson"

[learner]
interval_s = 0.2

# A log that is meant to be evaluated keeps some chance for every model.
[exploration]
floor = 0.2
floor_spend_share = 1.0
floor_quality_loss = 1.0

[store]
url = "{url}"
"""
# How good each model's answers are, on short and on long questions.
QUALITY = {"small": (0.9, 0.1), "large": (0.8, 0.9)}
DECISIONS = 420
AT_ONCE = 4


def question(number: int) -> str:
    return "Why?" if number % 2 else "Prove, step by step, that " + "this theorem holds; " * 30


async def use(service: Process) -> None:
    """Ask, and say of each answer how good it was."""
    async with httpx.AsyncClient(base_url=service.url, timeout=30.0, trust_env=False) as client:

        async def ask_some(first: int) -> None:
            for number in range(first, DECISIONS, AT_ONCE):
                body = {
                    "model": "auto",
                    "messages": [{"role": "user", "content": question(number)}],
                }
                got = await client.post("/v1/chat/completions", json=body)
                assert got.status_code == 200, got.text
                model = got.headers["x-router-model"]
                worth = QUALITY[model][1 - number % 2]
                told: dict[str, Any] = {
                    "decision_id": got.headers["x-router-decision-id"],
                    "metric": "quality",
                    "value": worth + (0.05 if number % 3 else -0.05),
                }
                assert (await client.post("/v1/feedback", json=told)).status_code == 200

        await asyncio.gather(*(ask_some(first) for first in range(AT_ONCE)))


async def last_snapshot(url: str) -> int:
    """The version of the newest snapshot, once all feedback is in one."""
    engine = make_engine(url, pool_size=1)
    try:

        async def learned() -> int | None:
            async with engine.connect() as connection:
                row = (
                    await connection.execute(
                        text("SELECT max(version) FROM snapshots WHERE policy = 'thompson'")
                    )
                ).scalar()
                return int(row) if row and row > 1 else None

        return await eventually(learned, within_s=30.0)
    finally:
        await engine.dispose()


@pytest.fixture
def used(store_url: str, tmp_path: Path) -> tuple[Path, int]:
    """The configuration of a service that ran, and its newest snapshot."""

    async def whole() -> tuple[Path, int]:
        async with misbehaving(answer) as upstream:
            path = tmp_path / "router.toml"
            path.write_text(CONFIG.format(base_url=upstream.base_url, url=store_url))
            with service_process(path) as service:
                await use(service)
                return path, await last_snapshot(store_url)

    return asyncio.run(whole())


def test_a_service_s_own_log_and_snapshot_are_evaluated_from_its_database(
    used: tuple[Path, int],
    store_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, version = used
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    snapshot = f"thompson@snapshot-{version}"
    arguments = ["-t", snapshot, "-t", "fixed:large", "-t", "fixed:small"]
    outputs = ["--json", str(report), "--html", str(page)]
    assert run(["evaluate", store_url, *arguments, "--config", str(config), *outputs]) == 0, (
        capsys.readouterr().err
    )
    told = json.loads(report.read_text())
    assert told["decisions"] == DECISIONS
    assert told["feedback_rate"] == {"small": 1.0, "large": 1.0}
    found = {target["name"]: target for target in told["targets"]}
    # Half of the questions are short, and two thirds of the scores a little above.
    shift = 0.05 / 3.0
    for name, short_and_long in QUALITY.items():
        target = found[f"fixed:{name}"]
        assert target["refused"] is None, target
        low, high = target["reward"]["ci95"]
        assert low - 0.01 <= sum(short_and_long) / 2.0 + shift <= high + 0.01
    # All answers are alike, so that dollars differ by list price alone: twofold.
    cost = {name: found[f"fixed:{name}"]["cost_usd"]["mean"] for name in QUALITY}
    assert cost["large"] == pytest.approx(2.0 * cost["small"], rel=0.1)
    # What was learned is better than what was logged while it was, and the snapshot's own
    # exploration is in it.
    served = found[snapshot]
    assert served["refused"] is None, served
    assert min(served["shares"].values()) > 0.0
    assert sum(served["shares"].values()) == pytest.approx(1.0)
    assert served["reward"]["mean"] > found["fixed:small"]["reward"]["mean"]
    assert snapshot in page.read_text()
    # In a notebook, the same from the same database.
    frame = evaluate(store_url, ["fixed:large"], config=config).frame
    row = frame.filter(target="fixed:large", outcome="reward").row(0, named=True)
    assert row["value"] == pytest.approx(found["fixed:large"]["reward"]["mean"])
    # A snapshot that is not there is told with the remedy.
    missing = ["-t", "thompson@snapshot-999999"]
    assert run(["evaluate", store_url, *missing, "--config", str(config)]) == 2
    assert "no snapshot 999999" in capsys.readouterr().err
