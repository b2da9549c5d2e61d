"""Logged traffic: what is read, what is refused, and what is counted as left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from bandit_router.errors import DataError
from simulations.logs.checks import FAULTS, checked, with_types
from simulations.logs.files import Kind, expect, kind_of, read_traffic, write_traffic
from simulations.logs.schema import TYPES, LoggedDecision, markdown_table

DOCS = Path(__file__).parents[2] / "docs"


def decision(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "decision_id": f"{number:04d}",
        "created_at": f"2026-03-01T12:00:{number % 60:02d}Z",
        "arms": ["small", "large"],
        "pmf": [0.75, 0.25],
        "chosen": "small",
        "propensity": 0.75,
        "mode": "policy",
        "eligible": [True, True],
        "features": [0.5, float(number)],
        "reward": 0.9,
        "cost_usd": 1e-4,
        "latency_s": 0.8,
    }
    return {**row, **changes}


def rows(*odd: dict[str, Any], sound: int = 30) -> pl.LazyFrame:
    data = [decision(i) for i in range(sound)] + list(odd)
    return with_types(pl.DataFrame(data, infer_schema_length=None).lazy(), "log")


ODD: dict[str, dict[str, Any]] = {
    "missing": {"chosen": None},
    "doubled": {"decision_id": "0003"},
    "arms_repeated": {"arms": ["small", "small"]},
    "shape": {"pmf": [0.5, 0.25, 0.25]},
    "pmf_range": {"pmf": [1.2, -0.2]},
    "pmf_sum": {"pmf": [0.75, 0.2]},
    "unknown_chosen": {"chosen": "medium"},
    "propensity_zero": {"pmf": [0.0, 1.0], "propensity": 0.0},
    "propensity_differs": {"propensity": 0.5},
    "masked_mass": {"eligible": [True, False]},
    "reward_range": {"reward": 9.0},
    "cost_range": {"cost_usd": -1.0},
    "features_odd": {"features": [0.5]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_counted_and_left_out(fault: str) -> None:
    kept, dropped = checked(rows(decision(900, **ODD[fault])), "log")
    assert dropped.faults == {fault: 1}
    assert (dropped.read, dropped.kept) == (31, 30)
    assert kept.collect().height == 30
    assert FAULTS[fault] in dropped.sentences()[0]


def test_the_first_of_two_doubled_rows_is_kept() -> None:
    kept, _ = checked(rows(decision(3, reward=0.1)), "log")
    rewards = kept.filter(pl.col("decision_id") == "0003").collect()["reward"]
    assert rewards.to_list() == [0.9]


def test_overrides_are_set_aside_and_are_no_fault() -> None:
    kept, dropped = checked(rows(decision(900, mode="override"), decision(901, mode="rule")), "log")
    assert (dropped.faults, dropped.set_aside) == ({}, {"not_policy": 2})
    assert kept.collect()["mode"].unique().to_list() == ["policy"]


def test_a_log_with_many_faults_is_refused_with_the_reasons() -> None:
    odd = [decision(900 + i, pmf=[0.5, 0.2], propensity=0.5) for i in range(10)]
    with pytest.raises(DataError, match=r"30 of 40 rows are left.*pmf does not sum to 1"):
        checked(rows(*odd), "log")


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        checked(rows(sound=1).filter(pl.col("decision_id") == "none"), "log")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="propensity is not there"):
        with_types(rows().drop("propensity"), "log")


def test_a_column_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(DataError, match="column pmf has type"):
        with_types(rows().with_columns(pl.lit(0.5).alias("pmf")), "log")


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.{suffix}"
    written = rows(decision(77, reward=None, features=None)).collect()
    write_traffic(written, path)
    read, dropped = read_traffic(path)
    assert_frame_equal(read.collect(), written)
    assert dropped.kept == 31


def test_a_folder_of_parquet_files_is_one_log(tmp_path: Path) -> None:
    whole = rows(sound=40).collect()
    write_traffic(whole[:20], tmp_path / "a.parquet")
    write_traffic(whole[20:], tmp_path / "b.parquet")
    read, _ = read_traffic(tmp_path)
    assert_frame_equal(read.collect().sort("decision_id"), whole)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (("prompt_id", "prompt", "model", "quality"), Kind.MATRIX),
        (("decision_id", "arms", "pmf", "chosen", "propensity"), Kind.TRAFFIC),
        (("request_id", "spend", "model", "startTime"), Kind.LITELLM),
        (("resourceSpans",), Kind.OTEL),
        (("a", "b"), Kind.UNKNOWN),
    ],
)
def test_a_file_is_known_by_its_columns(
    tmp_path: Path, columns: tuple[str, ...], kind: Kind
) -> None:
    path = tmp_path / "file.parquet"
    pl.DataFrame({name: ["x"] for name in columns}).write_parquet(path)
    assert kind_of(path) is kind
    if kind is not Kind.TRAFFIC:
        with pytest.raises(DataError) as told:
            expect(path, Kind.TRAFFIC)
        assert kind.words in str(told.value)
        assert kind.remedy[1:] in str(told.value)


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    broken = tmp_path / "log.parquet"
    broken.write_bytes(b"no parquet")
    for path, told in (
        (broken, "cannot be read"),
        (tmp_path / "none.parquet", "no such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(DataError, match=told) as error:
            read_traffic(path)
        assert "\n" not in str(error.value)


def test_the_types_are_those_of_the_schema() -> None:
    assert set(TYPES) == set(LoggedDecision.model_fields)
    LoggedDecision.model_validate(decision(1))


def test_the_documentation_carries_the_schema() -> None:
    assert markdown_table() in (DOCS / "log-schema.md").read_text()
