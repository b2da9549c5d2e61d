"""Reading outcome matrices, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bandit_router.errors import DataError
from simulations.matrix import OutcomeMatrix, read_matrix

ROWS: list[dict[str, Any]] = [
    {
        "prompt_id": prompt,
        "prompt": f"Question {prompt}?",
        "category": "math" if prompt == "q1" else None,
        "model": model,
        "quality": quality,
        "cost_usd": cost,
        "latency_ms": 1500.0,
        "input_tokens": 10,
        "output_tokens": tokens,
        "split": split,
    }
    for prompt, split, model, quality, cost, tokens in (
        ("q1", "val", "b", 0.5, 0.001, 7),
        ("q1", "val", "a", 1.0, 0.01, None),
        ("q2", "test", "a", 0.0, None, 9),
        ("q2", "test", "b", 0.25, 0.002, 3),
        ("q3", "test", "b", 0.75, 0.003, 4),
    )
]


def written(folder: Path, kind: str = "jsonl", rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        pl.DataFrame(list(rows)).write_csv(path)
    else:
        pl.DataFrame(list(rows)).write_parquet(path)
    return path


def changed(index: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**row, **changes} if i == index else row for i, row in enumerate(ROWS)]


def assert_same(one: OutcomeMatrix, other: OutcomeMatrix) -> None:
    for name in ("prompt_ids", "prompts", "category", "split", "models"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_every_kind_of_file_reads_alike(tmp_path: Path, kind: str) -> None:
    found = read_matrix(written(tmp_path, kind))
    nan = np.nan
    assert found.models == ("b", "a")
    assert found.prompt_ids == ("q1", "q2", "q3")
    assert found.prompts[0] == "Question q1?"
    assert found.category == ("math", "", "")
    assert found.split == ("val", "test", "test")
    np.testing.assert_array_equal(found.quality, [[0.5, 1.0], [0.25, 0.0], [0.75, nan]])
    np.testing.assert_array_equal(found.cost_usd, [[0.001, 0.01], [0.002, nan], [0.003, nan]])
    np.testing.assert_array_equal(found.latency_s, [[1.5, 1.5], [1.5, 1.5], [1.5, nan]])
    np.testing.assert_array_equal(found.output_tokens, [[7, nan], [3, 9], [4, nan]])
    np.testing.assert_array_equal(found.known, [[True, True], [True, True], [True, False]])


def test_the_order_of_rows_decides_nothing_but_the_order_of_prompts(tmp_path: Path) -> None:
    one = read_matrix(written(tmp_path), models=("a", "b"))
    other = read_matrix(written(tmp_path, rows=ROWS[::-1]), models=("a", "b"))
    assert other.prompt_ids == ("q3", "q2", "q1")
    assert_same(other.rows(np.array([2, 1, 0])), one)


def test_models_are_kept_in_the_order_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert read_matrix(path, ("a", "b")).quality[0].tolist() == [1.0, 0.5]
    assert read_matrix(path, ("b",)).quality.shape == (3, 1)
    # A prompt that only the dropped model answered is gone.
    assert read_matrix(path, ("a",)).prompt_ids == ("q1", "q2")


def test_optional_columns_may_be_missing(tmp_path: Path) -> None:
    needed = ("prompt_id", "prompt", "model", "quality")
    rows = [{name: row[name] for name in needed} for row in ROWS]
    found = read_matrix(written(tmp_path, rows=rows))
    assert found.split == found.category == ("", "", "")
    for values in (found.cost_usd, found.latency_s, found.input_tokens, found.output_tokens):
        assert np.isnan(values).all()
    np.testing.assert_array_equal(found.quality, read_matrix(written(tmp_path)).quality)


def test_numbers_for_ids_and_the_same_id_in_two_splits_are_fine(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": 1} for row in ROWS[:4]]
    found = read_matrix(written(tmp_path, rows=rows))
    assert found.prompt_ids == ("1", "1")
    assert found.split == ("val", "test")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [{"prompt_id": 1, "prompt": "x", "quality": 0.5}],
            r"column model missing; needed are prompt_id.*Found: prompt_id, prompt, quality",
        ),
        ([*ROWS, ROWS[0]], r"prompt q1 has several rows for model b \(2 such rows\); keep one"),
        (changed(1, quality=1.5), r"quality 1.5 of prompt q1, model a lies outside \[0, 1\]"),
        (changed(0, quality=-0.1), r"quality -0.1 .*rescale it"),
        (changed(0, cost_usd=-0.5), r"cost_usd -0.5 of prompt q1 is negative"),
        (changed(2, model=None), r"1 rows have no model.*first.*q2"),
        (changed(2, prompt_id=None), r"1 rows have no prompt_id"),
    ],
)
def test_data_that_cannot_be_used_are_told_with_the_remedy(
    tmp_path: Path, rows: list[dict[str, Any]], told: str
) -> None:
    path = written(tmp_path, rows=rows)
    with pytest.raises(DataError, match=told) as caught:
        read_matrix(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (("a", "z"), "no outcomes of model z; it has b, a"),
        (("a", "a"), "a model is named twice in a, a"),
    ],
)
def test_models_that_cannot_be_kept_are_told(
    tmp_path: Path, models: tuple[str, ...], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read_matrix(written(tmp_path), models)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give a Parquet"):
        read_matrix(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no such file"):
        read_matrix(tmp_path)
    odd = tmp_path / "data.xlsx"
    odd.write_text("x")
    with pytest.raises(DataError, match=r"unknown kind of file '.xlsx'"):
        read_matrix(odd)
    for name in ("broken.parquet", "broken.jsonl"):
        broken = tmp_path / name
        broken.write_bytes(b"\x00\x01 not what it says {")
        with pytest.raises(DataError, match="cannot be read as"):
            read_matrix(broken)
    for name in ("empty.parquet", "empty.jsonl", "empty.csv"):
        empty = tmp_path / name
        empty.write_bytes(b"")
        with pytest.raises(DataError):
            read_matrix(empty)


def test_a_header_without_rows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("prompt_id,prompt,model,quality\n")
    with pytest.raises(DataError, match="no rows; there is nothing to replay"):
        read_matrix(path)


def test_quality_that_is_no_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"quality 'good' of prompt q1.*is not a number"):
        read_matrix(written(tmp_path, "csv", changed(0, quality="good")))
    with pytest.raises(DataError, match="quality nan"):
        read_matrix(written(tmp_path, "parquet", changed(0, quality=float("nan"))))
