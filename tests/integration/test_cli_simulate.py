"""``bandit-router simulate`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit_router.cli import run

TASKS = ("Write a Python function that sorts a list.", "Translate this sentence into French.")


def data_file(folder: Path, count: int = 120, **without: Any) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for i in range(count):
        for model, good_at, cost in (("cheap", 1, 1e-4), ("dear", 0, 1e-3)):
            row = {
                "prompt_id": f"q{i}",
                "prompt": f"{TASKS[i % 2]} Variant {i}.",
                "category": "code" if i % 2 == 0 else "translation",
                "model": model,
                "quality": round(float(rng.uniform(0.8, 0.9) - 0.5 * (i % 2 != good_at)), 4),
                "cost_usd": cost,
                "split": "val" if i < count // 3 else "test",
            }
            lines.append(json.dumps({k: v for k, v in row.items() if k not in without}))
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def simulate(*arguments: object) -> int:
    return run(["simulate", *(str(argument) for argument in arguments)])


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_the_table_and_the_json_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    code = simulate(
        data_file(tmp_path),
        *("--policy", "thompson", "--budget", "6e-4", "--seeds", 2, "--jobs", 1),
        *("--warmup-split", "val", "--score-split", "test", "--feature-set", "none"),
        *("--metadata", "category", "--json", out),
    )
    shown = capsys.readouterr().out
    assert code == 0
    told = json.loads(out.read_text())
    assert list(told) == [
        "policy",
        "budget_usd",
        "seeds",
        "requests",
        "reward",
        "cost_usd",
        "utilisation",
        "shares",
        "regret",
        "baselines",
    ]
    assert (told["policy"], told["budget_usd"]) == ("thompson", 6e-4)
    assert (told["seeds"], told["requests"]) == (2, 80)
    assert told["reward"]["mean"] > told["baselines"]["random"]["reward"]
    for text in (
        f"{told['reward']['mean']:.4f}",
        "best single model within budget",
        "best static mix at the same spend",
        "random",
        "oracle within budget",
        f"{told['utilisation']['mean']:.1%} on average",
        f"cheap {told['shares']['cheap']:.1%}",
        "2 seeds × 80 requests",
        f"regret against the oracle: {told['regret']:.4f}",
    ):
        assert text in shown


def test_models_can_be_narrowed_to_one(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code = simulate(
        data_file(tmp_path, 30),
        *("--models", "dear", "--seeds", 1, "--feature-set", "none", "--json", out),
    )
    assert code == 0
    assert json.loads(out.read_text())["shares"] == {"dear": 1.0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--policy", "greedy"), "no policy 'greedy'; known policies"),
        (("--policy", "fixed:gpt"), "no model 'gpt'"),
        (("--policy", "fixed"), "fixed:MODEL"),
        (("--models", "cheap,gpt"), "no outcomes of model gpt; it has cheap, dear"),
        (("--score-split", "nowhere"), "no prompt is in split 'nowhere'"),
        (("--metadata", "colour"), "no metadata column colour"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    code = simulate(data_file(tmp_path, 12), "--seeds", 1, "--feature-set", "none", *arguments)
    shown = capsys.readouterr()
    assert code != 0
    assert told in shown.err
    assert "Traceback" not in shown.err


def test_a_budget_without_costs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data_file(tmp_path, 12, cost_usd=True)
    assert simulate(path, "--budget", "1e-3", "--seeds", 1, "--feature-set", "none") != 0
    assert "needs cost_usd for every outcome" in capsys.readouterr().err
    assert simulate(path, "--seeds", 1, "--feature-set", "none") == 0


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(tmp_path / "none.parquet") != 0
    assert "no such file" in capsys.readouterr().err


def test_a_prior_is_fitted_written_and_started_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, prior = data_file(tmp_path), tmp_path / "prior.json"
    features = ("--feature-set", "none", "--metadata", "category")
    assert run(["fit-prior", str(data), "--out", str(prior), "--split", "val", *features]) == 0
    shown = capsys.readouterr().out
    assert "10 held-out outcomes" in shown
    assert "count as 10 rows of feedback" in shown
    assert "Write a Python" not in prior.read_text()

    def reward(*more: str) -> float:
        out = tmp_path / "out.json"
        part = ("--score-split", "test", "--seeds", "2", "--jobs", "1", "--json", str(out))
        assert simulate(data, *part, *features, *more) == 0
        return float(json.loads(out.read_text())["reward"]["mean"])

    assert reward("--prior", str(prior)) > reward() + 0.01
    capsys.readouterr()
    assert simulate(data, "--prior", prior, "--feature-set", "none", "--seeds", 1) == 2
    assert "they are now" in capsys.readouterr().err
