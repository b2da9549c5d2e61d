"""``bandit-router benchmark ope`` on a small matrix: every part of its report is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bandit_router.cli import run
from bandit_router.ope import ESTIMATORS


def test_the_benchmark_writes_coverage_errors_and_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "prompt_id": f"p{i}",
            "prompt": f"question number {i} about {'code' if i % 3 else 'law'}",
            "model": model,
            "quality": float(np.clip(mean + 0.1 * rng.normal(), 0.0, 1.0)),
            "cost_usd": cost,
            "input_tokens": 10,
            "output_tokens": 20,
        }
        for i in range(800)
        for model, mean, cost in (("small", 0.6, 1e-4), ("large", 0.65, 1e-3))
    ]
    data, report = tmp_path / "matrix.parquet", tmp_path / "report.json"
    pl.DataFrame(rows).write_parquet(data)
    sizes = ["--logs", "2", "--synthetic", "1", "--rounds", "3000", "--resamples", "50"]
    assert run(["benchmark", "ope", "--data", str(data), "--json", str(report), *sizes]) == 0
    told = json.loads(report.read_text())
    assert set(told) == {"explored", "default", "unexplored", "synthetic", "speed"}
    assert {"fixed:small", "fixed:large", "static mix"} < set(told["explored"])
    rows_of_mix = told["explored"]["static mix"]["estimates"]
    assert {key.partition("/")[0] for key in rows_of_mix} == set(ESTIMATORS)
    assert rows_of_mix["dr/bootstrap"]["logs"] == 2
    # 400 rounds, noise of a tenth: twenty standard errors is far off.
    assert rows_of_mix["dr/bootstrap"]["rmse"] < 0.1
    assert told["speed"]["reward"]["seconds"] > 0.0
    assert told["speed"]["all_outcomes"]["cpu_seconds"] > 0.0
    assert "share of intervals that hold the truth" in capsys.readouterr().out
