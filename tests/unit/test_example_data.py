"""The shipped prompts arrive whole, and go out again as a recording that models answer from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bandit_router.errors import DataError
from bandit_router.providers.recording_file import read_recording
from simulations import example_data
from simulations.example_data import examples_folder, read_examples, write_recording
from simulations.matrix import OutcomeMatrix, read_matrix

MODELS = (
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-large-2512",
    "google/gemini-2.5-pro",
)


@pytest.fixture(scope="module")
def matrix() -> OutcomeMatrix:
    return read_examples()


def test_every_prompt_has_its_three_judged_and_priced_answers(matrix: OutcomeMatrix) -> None:
    assert Counter(matrix.split) == {"val": 1785, "test": 1824}
    assert matrix.models == MODELS
    assert matrix.known.all()
    assert np.isfinite(matrix.cost_usd).all()
    # The published means of the three fixed models on the test split.
    test = matrix.rows(np.flatnonzero(np.array(matrix.split) == "test"))
    assert test.quality.mean(axis=0).round(3).tolist() == [0.793, 0.923, 0.932]
    assert test.cost_usd.mean(axis=0) == pytest.approx([2.9e-5, 5.3e-4, 1.52e-2], rel=0.02)


def test_a_row_stands_under_its_own_prompt(matrix: OutcomeMatrix) -> None:
    lines = (examples_folder() / "test_holdout.jsonl").read_bytes().splitlines()
    example = json.loads(lines[1000])
    row = matrix.prompt_ids.index("test-1001")
    assert matrix.prompts[row] == example["prompt"]
    assert matrix.category[row] == example["source"]
    for k, model in enumerate(matrix.models):
        assert matrix.quality[row, k] == example["arms"][model]["reward"]
        assert matrix.cost_usd[row, k] == example["arms"][model]["cost"]


def test_a_recording_gives_back_what_was_written(matrix: OutcomeMatrix, tmp_path: Path) -> None:
    some = matrix.rows(np.array([3, 2000, 17]))
    some.quality[1, 2] = np.nan
    some.latency_s[0, 0] = 1.25
    path = tmp_path / "recording.jsonl"
    write_recording(some, path)
    again = read_matrix(path)
    assert again.prompt_ids == some.prompt_ids
    assert again.prompts == some.prompts
    np.testing.assert_array_equal(again.quality, some.quality)
    np.testing.assert_array_equal(again.latency_s, some.latency_s)
    recording = read_recording(path)
    assert recording.prompt_ids[some.prompts[1]] == some.prompt_ids[1]
    assert set(recording.outcomes[some.prompt_ids[1]]) == set(MODELS[:2])
    first = recording.outcomes[some.prompt_ids[0]][MODELS[0]]
    assert (first.quality, first.cost_usd) == (some.quality[0, 0], some.cost_usd[0, 0])
    assert (first.latency_s, first.output_tokens) == (1.25, None)


def test_the_package_s_own_code_is_not_loaded() -> None:
    code = (
        "import sys; from simulations.example_data import examples_folder; examples_folder(); "
        "print('pareto_bandit' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_data, "PACKAGE", "pareto_bandit_that_is_not_here")
    with pytest.raises(DataError, match=r"pip install 'bandit-router\[demo\]'"):
        read_examples()


@pytest.mark.parametrize("line", ["{oops", "[]", '{"prompt": "x", "source": "y"}'])
def test_another_version_s_line_is_named(tmp_path: Path, line: str) -> None:
    good = (examples_folder() / "val.jsonl").read_bytes().splitlines()[0]
    (tmp_path / "val.jsonl").write_bytes(good + b"\n" + line.encode() + b"\n")
    with pytest.raises(DataError, match=r"val.jsonl:2: not an example of paretobandit 0.1.1"):
        read_examples(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"val.jsonl cannot be read: No such file"):
        read_examples(tmp_path)
