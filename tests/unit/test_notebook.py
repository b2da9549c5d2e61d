"""The notebook's functions: the page that describes them runs, and they agree with the commands."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import pytest

from bandit_router.cli import run
from bandit_router.errors import DataError
from simulations.logs.files import write_traffic
from simulations.notebook import Found, evaluate, simulate
from simulations.world import Traffic, named_world, simulate_traffic

PAGE = Path(__file__).parents[2] / "docs" / "notebooks.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the page's code leaves behind, run in one go as a notebook would."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
        names["written"] = sorted(str(path) for path in Path().rglob("*.*"))
    return names


def test_the_page_runs_and_gives_tables_and_plots(page: dict[str, object]) -> None:
    found, judged = page["found"], page["judged"]
    assert isinstance(found, Found)
    assert isinstance(judged, Found)
    assert found.frame["policy"].to_list() == [
        "thompson",
        "best_single",
        "static_mix",
        "random",
        "oracle",
    ]
    assert list(found.charts) == ["frontier", "hard", "segments", "over_time", "shares"]
    assert isinstance(found.chart(), alt.LayerChart)
    assert set(found.tables) == {"hard", "segments", "over_time", "shares"}
    rewards = judged.frame.filter(outcome="reward")
    assert rewards["target"].to_list()[:4] == [
        "logged",
        "random",
        "fixed:mini",
        "mix:mini=0.5,grand=0.5",
    ]
    known = rewards.filter(pl.col("refused").is_null())
    assert known.height >= 3
    assert (known["low"] <= known["value"]).all()
    assert (known["value"] <= known["high"]).all()
    assert "<table" in judged._repr_html_()
    written = page["written"]
    assert isinstance(written, list)
    assert {"evaluation.html", "plots/frontier.png", "plots/frontier.svg"} <= set(written)


def test_no_chart_waits_for_a_width_that_a_notebook_lacks(page: dict[str, object]) -> None:
    found = page["found"]
    assert isinstance(found, Found)
    assert '"container"' not in json.dumps([c.to_dict() for c in found.charts.values()])
    with pytest.raises(DataError, match="no chart 'pie'; there are frontier"):
        found.chart("pie")


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return simulate_traffic(named_world("office"), 600, np.random.default_rng(1))


def test_numbers_are_those_of_the_command(
    traffic: Traffic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = tmp_path / "log.parquet", tmp_path / "report.json"
    write_traffic(traffic.log, path)
    assert run(["evaluate", str(path), "-t", "logged", "--json", str(report)]) == 0
    told = json.loads(report.read_text())["targets"][0]
    for given in (path, traffic.log, traffic.log.lazy()):
        row = evaluate(given, ["logged"]).frame.row(0, named=True)
        assert (row["value"], [row["low"], row["high"]]) == (
            told["reward"]["mean"],
            told["reward"]["ci95"],
        )


def test_an_event_loop_that_runs_already_is_no_obstacle(traffic: Traffic) -> None:
    async def cell() -> Found:
        return evaluate(traffic.log, {"as logged": traffic.trace.records.pmf})  # type: ignore[union-attr]

    frame = asyncio.run(cell()).frame
    logged, same = frame.row(0, named=True), frame.row(3, named=True)
    assert same["target"] == "as logged"
    assert same["value"] == pytest.approx(logged["value"])
    # A database is asked from a thread, and says what is wrong as usual.
    with pytest.raises(DataError, match="no such file"):
        asyncio.run(asyncio.to_thread(evaluate, "nowhere.parquet", ["logged"]))


def test_what_is_no_data_is_told() -> None:
    with pytest.raises(DataError, match="object is neither a path nor a table"):
        simulate(object())
