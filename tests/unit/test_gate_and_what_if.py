"""Gates on evaluation sets, what-if questions, and the chatbot's month."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bandit_router.cli import run
from bandit_router.errors import DataError
from simulations.baselines import fixed
from simulations.chatbot import RULES_SAVING, run_chatbot, sentences
from simulations.gate import gate
from simulations.logs.checks import checked, with_types
from simulations.logs.rounds import load_log
from simulations.matrix import OutcomeMatrix, frame_of, read_matrix
from simulations.what_if import (
    Changes,
    NewModel,
    budgets_for,
    changed,
    frontier,
    matrix_of_log,
    parse_new_model,
    parse_prices,
)
from simulations.world import named_world, simulate_traffic


@pytest.fixture(scope="module")
def matrix() -> OutcomeMatrix:
    world = named_world("office")
    rng = np.random.default_rng(1)
    return world.matrix(world.contexts(400, rng, texts=True), rng)


@pytest.fixture(scope="module")
def file(matrix: OutcomeMatrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "hard.jsonl"
    frame_of(matrix).write_ndjson(path)
    return path


def test_a_matrix_written_and_read_is_the_same(matrix: OutcomeMatrix, file: Path) -> None:
    read = read_matrix(file)
    assert read.models == matrix.models
    assert np.allclose(read.quality, matrix.quality)
    assert np.allclose(read.latency_s, matrix.latency_s)


def test_the_gate_holds_quality_cost_and_loss(matrix: OutcomeMatrix) -> None:
    good = fixed(matrix)[3]
    assert gate(matrix, "fixed:grand", least_quality=good.reward).passed
    assert not gate(matrix, "fixed:grand", least_quality=good.reward, confident=True).passed
    told = gate(
        matrix,
        "fixed:mini",
        least_quality=0.9,
        most_cost_usd=1e-6,
        against="fixed:grand",
        most_loss=0.01,
    )
    assert [text.split(",")[0] for text in told.failures] == [
        "its quality",
        "its cost",
        "it loses " + told.failures[2].split()[2] + " against fixed:grand",
    ]
    lost = good.reward - fixed(matrix)[0].reward
    assert float(told.failures[2].split()[2]) == pytest.approx(lost, abs=1e-4)
    with pytest.raises(DataError, match="nothing is asked"):
        gate(matrix, "fixed:mini")
    with pytest.raises(DataError, match="a learning policy needs a state"):
        gate(matrix, "thompson", least_quality=0.5)


def test_the_command_exits_with_one_below_and_with_two_when_it_cannot_tell(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gate", "--eval-set", str(file), "--json", str(tmp_path / "gate.json")]
    assert run([*command, "--policy", "fixed:grand", "--min-quality", "0.9"]) == 0
    assert run([*command, "--policy", "fixed:mini", "--min-quality", "0.9"]) == 1
    assert json.loads((tmp_path / "gate.json").read_text())["passed"] is False
    assert run([*command, "--policy", "fixed:mini"]) == 2
    assert run([*command, "--policy", "fixed:gpt", "--min-quality", "0.9"]) == 2
    assert "no model 'gpt'" in capsys.readouterr().err


def test_changes_do_what_they_say(matrix: OutcomeMatrix) -> None:
    new = NewModel("nova", quality=0.9, cost_usd=4e-4, like="coder", latency_s=0.1)
    after = changed(matrix, Changes({"grand": 0.5}, ("linguist",), (new,)))
    assert after.models == ("mini", "coder", "grand", "nova")
    assert np.allclose(after.cost_usd[:, 2], 0.5 * matrix.cost_usd[:, 3])
    assert after.quality[:, 3].mean() == pytest.approx(0.9)
    assert 0.0 <= after.quality[:, 3].min() <= after.quality[:, 3].max() <= 1.0
    assert np.corrcoef(after.quality[:, 3], matrix.quality[:, 1])[0, 1] > 0.99
    late = changed(matrix, Changes({}, most_latency_s=1.0))
    assert late.known.any(axis=1).all()
    assert (matrix.latency_s[late.known] <= 1.0).mean() > 0.9
    assert late.known.sum() < matrix.known.sum()


def test_cheaper_is_never_worse_and_fewer_never_better(matrix: OutcomeMatrix) -> None:
    cheaper = changed(matrix, Changes({"grand": 0.25}))
    fewer = changed(matrix, Changes({}, ("grand",)))
    budgets = budgets_for(matrix)
    lines = [
        frontier(m, budgets, False).filter(line="best static mix")["quality"].to_numpy()
        for m in (fewer, matrix, cheaper)
    ]
    assert (lines[0] <= lines[1] + 1e-12).all()
    assert (lines[1] <= lines[2] + 1e-12).all()


def test_on_a_log_the_frontier_is_near_the_truth() -> None:
    world = named_world("office")
    traffic = simulate_traffic(world, 1200, np.random.default_rng(2), policy="random")
    log = load_log(checked(with_types(traffic.log.lazy(), "log"), "log")[0])
    expected = matrix_of_log(log)
    assert np.allclose(
        expected.quality.mean(axis=0), traffic.expected_quality.mean(axis=0), atol=0.04
    )
    assert np.allclose(
        expected.cost_usd.mean(axis=0), traffic.matrix.cost_usd.mean(axis=0), rtol=0.1
    )


@pytest.mark.parametrize("text", ["nova", "nova:quality=high,cost=1", "nova:cost=1"])
def test_new_models_are_read_or_told(text: str) -> None:
    with pytest.raises(DataError, match="write NAME:quality"):
        parse_new_model(text)
    assert parse_new_model("a/b:quality=0.5,cost=0,latency=2").latency_s == 2.0
    with pytest.raises(DataError, match="MODEL=FACTOR"):
        parse_prices(["gpt=cheap"])


def test_what_if_draws_both_worlds(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["what-if", str(file), "--seeds", "1", "--feature-set", "none", "--budget", "1e-3"]
    out, page = tmp_path / "w.json", tmp_path / "w.html"
    assert run([*command, "--price", "grand=0.5", "--json", str(out), "--html", str(page)]) == 0
    told = json.loads(out.read_text())
    assert told["changes"] == ["grand costs 0.5 times as much"]
    assert {row["world"] for row in told["frontier"]} == {"before", "after"}
    assert set(told["router"]) == {"before", "after"}
    assert "thompson would go from" in page.read_text()
    assert run(command) == 2
    assert "nothing is changed" in capsys.readouterr().err
    assert run([*command, "--remove", "gpt"]) == 2


def test_the_chatbot_comes_near_perfect_rules_within_a_few_thousand_questions() -> None:
    result = run_chatbot(2000, seed=1)
    assert result.saving >= RULES_SAVING - 0.02
    assert result.quality_lost < 0.03
    assert result.small_simple > 0.9
    assert result.small_hard < 0.15
    assert any("perfect rules save" in text for text in sentences(result))
