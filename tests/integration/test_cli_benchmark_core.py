"""``bandit-router benchmark replay`` and ``updates``, small: what they print and write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bandit_router.cli import run


def test_the_replay_benchmark_learns_and_tells_time_and_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "replay.json"
    sizes = ["--decisions", "120", "--prompts", "100", "--features", "8", "--budget", "0.004"]
    assert run(["benchmark", "replay", *sizes, "--json", str(report)]) == 0
    told = json.loads(report.read_text())
    assert (told["decisions"], told["prompts"], told["arms"]) == (120, 100, 8)
    assert told["coordinates"] > 8
    assert told["ratio"] == pytest.approx(told["cpu_us"] / told["yardstick_us"])
    assert 0.0 < told["reward"] <= 1.0
    assert told["cost_usd"] > 0.0
    assert "120 decisions among 8 models" in " ".join(capsys.readouterr().out.split())


def test_the_benchmark_of_updates_finds_the_posterior_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "updates.json"
    sizes = ["--updates", "1000", "--dimension", "8", "--rank", "3", "--half-life", "200"]
    assert run(["benchmark", "updates", *sizes, "--json", str(report)]) == 0
    told = json.loads(report.read_text())
    assert told["least_eigenvalue"] > 0.0
    assert told["sums_away"] < 1e-12
    assert "1,000 updates at 8 coordinates of rank 3" in " ".join(capsys.readouterr().out.split())
