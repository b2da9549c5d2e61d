"""The dashboard's benchmark, small: it fills a log, asks every door, and measures the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bandit_router.cli import run
from simulations.protocols.dashboard import DOORS


@pytest.mark.usefixtures("chromium")
def test_every_door_that_the_page_asks_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "dashboard.json"
    sizes = ["--decisions", "1000", "--repeats", "1"]
    assert run(["benchmark", "dashboard", *sizes, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["decisions"] == 1000
    assert [door["panel"] for door in found["doors"]] == [panel for panel, _ in DOORS]
    assert all(0.0 < door["min_ms"] <= door["p95_ms"] for door in found["doors"])
    assert all(0.0 < paint_ms < 5000.0 for paint_ms in found["page"]["first_paint_ms"])
    asked = {path for path, _, _ in found["page"]["doors_ms"]}
    assert "/admin/stats/summary" in asked
    assert asked <= {door["path"].partition("?")[0] for door in found["doors"]}
    told = capsys.readouterr().out
    assert "1,000 decisions" in told
    assert "first paint" in told
