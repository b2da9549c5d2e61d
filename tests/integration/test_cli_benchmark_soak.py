"""``bandit-router benchmark soak``, short: a real service whose models fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bandit_router.cli import run
from simulations.faults.soak import problems_of

GOOD: dict[str, Any] = {
    "requests": 20_000,
    "hung": 0,
    "lost_decisions": 0,
    "lost_outcomes": 0,
    "lost_feedback": 0,
    "memory_growth_in_second_half": 0.01,
    "memory_growth_of_learner_in_second_half": 0.01,
}


def test_nothing_is_lost_or_hung_while_calls_fail(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    arguments = ["benchmark", "soak", "--requests", "500", "--faults", "0.2"]
    assert run([*arguments, "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    assert result["problems"] == []
    assert sum(result["ended"].values()) == 500
    # The faults were there, and most of them no caller ever noticed.
    assert result["calls_made_to_fail"] > 50
    assert result["ended"]["200"] > 400
    assert len(result["rss_mb"]) > 10
    assert min(result["rss_mb"]) > 50.0
    assert max(result["rss_mb_of_learner"]) > 50.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hung", 1),
        ("lost_decisions", 1),
        ("lost_outcomes", 2),
        ("lost_feedback", 1),
        ("memory_growth_in_second_half", 0.03),
        ("memory_growth_of_learner_in_second_half", 0.03),
    ],
)
def test_whatever_is_missing_is_told(name: str, value: float) -> None:
    assert problems_of(GOOD) == []
    assert len(problems_of({**GOOD, name: value})) == 1
