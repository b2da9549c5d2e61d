"""``bandit-router benchmark gateway``, for a moment: real processes, sockets and Postgres."""

from __future__ import annotations

import json
from pathlib import Path

from bandit_router.cli import run


def test_gateway_benchmark_reports_both_targets_under_every_load(tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    arguments = ["benchmark", "gateway", "--requests", "60", "--connections", "4,1"]
    assert run([*arguments, "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    kinds = [(load["connections"], load["stream"]) for load in result["loads"]]
    assert kinds == [(4, False), (1, False), (4, True), (1, True)]
    for load in result["loads"]:
        for target in ("pass_through", "router"):
            row = load[target]
            assert row["requests"] == (6 if load["stream"] else 60)
            assert row["requests_per_s"] > 0
            assert 0 < row["p50_ms"] <= row["p99_ms"]
            assert row["cpu_us_per_request"] >= 0
            assert ("cpu_us_per_chunk" in row) == load["stream"]
        added = load["router"]["p50_ms"] - load["pass_through"]["p50_ms"]
        assert load["added_p50_ms"] == added
