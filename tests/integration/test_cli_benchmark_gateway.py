"""``bandit-router benchmark gateway``, for a moment: real processes, sockets and Postgres."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bandit_router.cli import run
from simulations.gateway.peers import Absent, portkey
from simulations.gateway.processes import cpu_s

# The kernel counts in steps of 10 ms: so many that the learner takes several.
REQUESTS = 400


def test_gateway_benchmark_reports_both_targets_under_every_load(tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    arguments = ["benchmark", "gateway", "--requests", str(REQUESTS), "--connections", "4,1"]
    assert run([*arguments, "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    kinds = [(load["connections"], load["stream"]) for load in result["loads"]]
    assert kinds == [(4, False), (1, False), (4, True), (1, True)]
    for load in result["loads"]:
        for target in ("pass_through", "router"):
            row = load[target]
            assert row["requests"] == (REQUESTS // 10 if load["stream"] else REQUESTS)
            assert row["requests_per_s"] > 0
            assert 0 < row["p50_ms"] <= row["p99_ms"]
            assert row["cpu_us_per_request"] >= 0
            assert row["added_p50_ms"] == row["p50_ms"] - load["pass_through"]["p50_ms"]
            assert ("cpu_us_per_chunk" in row) == load["stream"]
    # Three transactions a request, whichever way the clock of the kernel falls.
    assert sum(load["router"]["postgres_cpu_us_per_request"] for load in result["loads"]) > 0
    # Its learner is a process of its own, and part of it.
    learner_us = sum(load["router"]["learner_cpu_us_per_request"] for load in result["loads"])
    assert learner_us > 0
    assert result["absent"] == {}


def test_a_peer_that_cannot_be_had_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Absent, match="npm"), portkey(tmp_path, "http://127.0.0.1:9/v1"):
        pass


def test_cpu_of_a_process_counts_its_children_but_not_those_left_out() -> None:
    spin = "import time; end = time.process_time() + .2\nwhile time.process_time() < end: pass\n"
    child_code = spin + "print(1, flush=True)\ntime.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child_code!r}])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as root:
        try:
            assert root.stdout is not None
            child = int(root.stdout.readline())
            assert root.stdout.readline().strip() == "1"
            whole, alone = cpu_s(root.pid), cpu_s(root.pid, {child})
            assert whole >= alone + 0.19
        finally:
            os.kill(child, signal.SIGKILL)
            root.kill()
