"""Sweeps: resumed where they were broken off, the same on one process, two, and a Dask cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster

from bandit_router.errors import DataError
from simulations.simulate import Study, make_study
from simulations.sweep import CellResult, cells_of, run_sweep, sweep_frame
from simulations.world import named_world

CELLS = cells_of(["thompson", "fixed:mini"], [1e-3, None], 2)


@pytest.fixture(scope="module")
def study() -> Study:
    world = named_world("office")
    rng = np.random.default_rng(0)
    return make_study(
        world.matrix(world.contexts(40, rng, texts=True), rng),
        policy="thompson",
        budget_usd=1e-3,
        warmup_split=None,
        score_split=None,
        text="none",
        metadata=("category",),
    )


def untimed(results: list[CellResult]) -> list[CellResult]:
    return [replace(result, took_s=0.0) for result in results]


@pytest.fixture(scope="module")
def alone(study: Study, tmp_path_factory: pytest.TempPathFactory) -> list[CellResult]:
    return run_sweep(study, CELLS, tmp_path_factory.mktemp("sweep") / "alone.jsonl")


def test_a_sweep_is_taken_up_where_it_was_cut_off(
    study: Study, alone: list[CellResult], tmp_path: Path
) -> None:
    out = tmp_path / "sweep.jsonl"
    run_sweep(study, CELLS, out)
    lines = out.read_text().split("\n")
    # As a kill leaves it: three whole results and half of one.
    out.write_text("\n".join(lines[:4]) + "\n" + lines[4][:30])
    marked = json.loads(lines[1])
    out.write_text(out.read_text().replace(lines[1], json.dumps({**marked, "reward": 0.125})))
    calls: list[int] = []
    again = run_sweep(study, CELLS, out, on_cell=lambda: calls.append(1))
    assert len(calls) == len(CELLS)
    # The first result was not run again; the others are what they would have been.
    assert again[0].reward == 0.125
    assert untimed(again[1:]) == untimed(alone[1:])
    assert len(out.read_text().splitlines()) == 1 + len(CELLS)


def test_another_sweeps_file_is_refused(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "sweep.jsonl"
    run_sweep(study, CELLS[:1], out)
    other = replace(study, score=study.score[:-1])
    with pytest.raises(DataError, match="a sweep over other data"):
        run_sweep(other, CELLS[:1], out)
    out.write_text("prompt,quality\n")
    with pytest.raises(DataError, match="no result of a sweep"):
        run_sweep(study, CELLS[:1], out)


def test_processes_and_a_dask_cluster_give_the_same_numbers(
    study: Study, alone: list[CellResult], tmp_path: Path
) -> None:
    assert untimed(run_sweep(study, CELLS, tmp_path / "two.jsonl", jobs=2)) == untimed(alone)
    with (
        # Two processes have to start and import everything, on a machine that others use too.
        dask.config.set({"distributed.comm.timeouts.connect": "120s"}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        found = run_sweep(study, CELLS, tmp_path / "dask.jsonl", cluster=address)
    assert untimed(found) == untimed(alone)


def test_a_cluster_that_is_not_there_is_told(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.workers.CLUSTER_TIMEOUT_S", 0.5)
    with pytest.raises(DataError, match="no Dask scheduler at tcp"):
        run_sweep(study, CELLS[:1], tmp_path / "x.jsonl", cluster="tcp://127.0.0.1:9")


def test_a_cluster_without_workers_is_told(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.workers.CLUSTER_TIMEOUT_S", 2.0)
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        pytest.raises(DataError, match="has no workers: start some"),
    ):
        run_sweep(study, CELLS[:1], tmp_path / "x.jsonl", cluster=cluster.scheduler_address)


def test_the_table_has_a_row_for_each_policy_and_budget(
    study: Study, alone: list[CellResult]
) -> None:
    frame = sweep_frame(study, alone)
    assert frame.height == 4
    assert frame["seeds"].to_list() == [2] * 4
    row = frame.row(0, named=True)
    assert row["reward_low"] <= row["reward"] <= row["reward_high"]
    assert row["budget_used"] == pytest.approx(row["cost_usd"] / 1e-3)
