"""Published protocols: their arithmetic by hand, and small runs of them on made-up data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bandit_router.cli import run
from bandit_router.errors import DataError
from simulations.example_data import read_examples
from simulations.matrix import OutcomeMatrix
from simulations.protocols import paretobandit_peer
from simulations.protocols.paretobandit import (
    BUDGETS_USD,
    MODELS,
    NEW_MODEL,
    PUBLISHED,
    of_models,
    protocol_study,
)
from simulations.protocols.paretobandit_peer import run_peer
from simulations.protocols.routellm import (
    CALL_USD,
    Point,
    apgr,
    cpt,
    pair_study,
    run_routellm,
    strong_arm,
)


def write(path: Path, models: tuple[str, ...], count: int, cheapest: float = 3e-5) -> Path:
    """Quality and price both rise with the model's place; half of the prompts are ``val``."""
    rng = np.random.default_rng(2)
    rows = [
        {
            "prompt_id": str(i),
            "prompt": f"Question {i}: what is {i} times {i}?",
            "category": "even" if i % 2 == 0 else "odd",
            "model": model,
            "quality": float(np.clip(0.5 + 0.15 * k + rng.normal(0, 0.05), 0, 1)),
            "cost_usd": cheapest * 10.0**k,
            "split": "val" if i < count // 2 else "test",
        }
        for i in range(count)
        for k, model in enumerate(models)
    ]
    pl.DataFrame(rows).write_parquet(path)
    return path


def pair_matrix(count: int = 400) -> OutcomeMatrix:
    """The strong model is right on every odd prompt and every eighth even one; the weak on
    every fourth odd one only."""
    number = np.arange(count)
    odd = number % 2 == 1
    strong = odd | (number % 16 == 0)
    weak = odd & (number % 8 == 1)
    return OutcomeMatrix(
        prompt_ids=tuple(str(i) for i in number),
        prompts=tuple("odd" if o else "even" for o in odd),
        category=tuple("odd" if o else "even" for o in odd),
        split=("eval",) * count,
        models=("strong", "weak"),
        quality=np.stack([strong, weak], axis=1).astype(np.float64),
        cost_usd=np.full((count, 2), np.nan),
        latency_s=np.full((count, 2), np.nan),
        input_tokens=np.full((count, 2), np.nan),
        output_tokens=np.full((count, 2), np.nan),
    )


def point(share: float, recovered: float) -> Point:
    return Point(strong_share=share, quality=0.4 + 0.4 * recovered, weak=0.4, strong=0.8)


def test_a_random_mix_recovers_half_of_the_area() -> None:
    points = [point(share, share) for share in (0.7, 0.2, 0.5)]
    assert apgr(points) == pytest.approx(0.5)
    assert cpt(points, 0.5) == pytest.approx(0.5)
    assert cpt(points, 0.8) == pytest.approx(0.8)


def test_area_and_thresholds_by_hand() -> None:
    points = [point(0.5, 0.9)]
    # Two trapezia: 0.5 · 0.9 / 2 and 0.5 · (0.9 + 1) / 2.
    assert apgr(points) == pytest.approx(0.225 + 0.475)
    assert cpt(points, 0.45) == pytest.approx(0.25)
    assert cpt(points, 0.95) == pytest.approx(0.75)


def test_recovered_is_measured_between_the_two_models() -> None:
    assert Point(0.3, quality=0.5, weak=0.4, strong=0.8).recovered == pytest.approx(0.25)


def test_a_call_of_the_better_model_is_the_unit_of_cost() -> None:
    study = pair_study(pair_matrix(), text="none")
    assert strong_arm(study) == 0
    assert (study.matrix.cost_usd[:, 0] == CALL_USD).all()
    assert (study.matrix.cost_usd[:, 1] == 0.0).all()


def test_contaminated_prompts_are_left_out() -> None:
    matrix = pair_matrix(40)
    split = ("contaminated",) * 10 + ("eval",) * 30
    study = pair_study(replace(matrix, split=split), text="none")
    assert study.score.size == 30
    assert study.matrix.prompt_ids[0] == "10"


def test_a_label_that_tells_hard_from_easy_is_learned_from_bandit_feedback() -> None:
    with_label = pair_study(pair_matrix(), text="none", metadata=("category",))
    result = run_routellm(with_label, (0.25, 0.5, 0.75), seeds=1, jobs=1)
    # Only odd prompts gain anything: whoever knows them has it all at half of the calls.
    assert result["apgr"] > 0.6
    assert result["cpt_50"] < 0.45
    assert result["scored"] == 200
    assert [each["target_share"] for each in result["points"]] == [0.25, 0.5, 0.75]


def test_a_pair_must_be_two_models_with_a_gap() -> None:
    matrix = pair_matrix(40)
    with pytest.raises(DataError, match=r"the data have 1: strong\. Choose a pair with --models"):
        pair_study(replace(matrix, models=("strong",)), text="none")
    with pytest.raises(DataError, match="no gap to recover"):
        pair_study(replace(matrix, quality=np.ones((40, 2))), text="none")


def test_every_published_budget_has_its_figures() -> None:
    assert BUDGETS_USD == (2.9e-5, 8.3e-5, 2.3e-4, 6.6e-4, 1.9e-3, 5.3e-3, 1.5e-2)
    assert [PUBLISHED[b].reward for b in BUDGETS_USD] == sorted(
        p.reward for p in PUBLISHED.values()
    )


def test_the_shipped_prompts_fit_the_protocol() -> None:
    matrix = read_examples()
    study = protocol_study(matrix, text="none")
    assert (study.warmup.size, study.score.size) == (1785, 1824)
    three = of_models(study, MODELS)
    np.testing.assert_array_equal(
        three.matrix.quality[:, 1], matrix.quality[:, matrix.models.index(MODELS[1])]
    )


def test_data_of_other_models_are_refused_with_those_that_are_needed() -> None:
    with pytest.raises(DataError, match=r"no outcomes of meta-llama/.*; ParetoBandit's protocol"):
        protocol_study(pair_matrix(), text="none")


def test_without_the_peers_own_parts_a_note_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paretobandit_peer, "NEEDED", ("a_package_nobody_has",))
    study = pair_study(pair_matrix(40), text="none")
    result = run_peer(study, [1e-4], seeds=1)
    assert not result.cold
    assert not result.warm
    assert "a_package_nobody_has" in result.note
    assert "pip install paretobandit==0.1.1" in result.note


def test_the_command_writes_the_table_and_every_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "four.parquet", (*MODELS, NEW_MODEL), 60)
    out = tmp_path / "out.json"
    arguments = ["benchmark", "paretobandit", "--data", str(data), "--seeds", "2", "--no-peer"]
    arguments += [
        "--budgets",
        "3e-4,6.6e-4",
        "--jobs",
        "1",
        "--feature-set",
        "none",
        "--json",
        str(out),
    ]
    assert run(arguments) == 0
    result = json.loads(out.read_text())
    assert [row["budget_usd"] for row in result["rows"]] == [3e-4, 6.6e-4]
    for row in result["rows"]:
        low, high = row["reward_ci95"]
        assert low <= row["reward"] <= high
        assert row["spend_ratio"] > 0.0
        assert 0.0 < row["static_mix"] < 1.0
        assert row["peer"] is None
    assert [row["published"] for row in result["rows"]] == [None, 0.898]
    scenarios = result["scenarios"]
    assert {name: len(reports) for name, reports in scenarios.items()} == {
        "failure": 3,
        "drift": 3,
        "onboarding": 12,
    }
    assert [each["phase"] for each in scenarios["drift"][0]["phases"]] == [
        "normal",
        "dropped",
        "restored",
    ]
    printed = capsys.readouterr().out
    assert "ParetoBandit's protocol" in printed
    assert "Scenarios" in printed


def test_the_command_prints_routellms_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "pair.parquet", ("weak", "strong"), 80)
    out = tmp_path / "out.json"
    arguments = ["benchmark", "routellm", "--data", str(data), "--seeds", "1", "--shares", ".5"]
    arguments += ["--feature-set", "none", "--metadata", "category", "--json", str(out)]
    assert run(arguments) == 0
    result = json.loads(out.read_text())
    assert result["metadata"] == ["category"]
    assert 0.0 < result["apgr"] < 1.0
    assert "APGR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--shares", "half", "--shares half: give numbers"),
        ("--shares", "-1", "--shares -1: every number must be positive"),
        ("--shares", "1.5", "a share lies between 0 and 1"),
    ],
)
def test_numbers_that_cannot_be_meant_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    data = write(tmp_path / "pair.parquet", ("weak", "strong"), 10)
    assert run(["benchmark", "routellm", "--data", str(data), f"{option}={value}"]) == 2
    assert message in capsys.readouterr().err
