"""The demo as a user runs it: a process of its own, with the service and Postgres behind it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from demo_process import demo, lines_until

from bandit_router.errors import DemoError
from simulations.demo.service_process import running_service
from simulations.demo.tally import shuffled
from simulations.demo.workspace import prepare, workspace
from simulations.example_data import read_examples

REQUESTS = 120


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def folder_of(children: list[psutil.Process]) -> Path:
    """The demo's folder, from the configuration that its service was started with."""
    return Path(next(c for c in children if "serve" in c.cmdline()).cmdline()[-1]).parent


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10.0)
    assert alive == []


class Run(NamedTuple):
    """One short run, left serving until Ctrl-C. asked: what each path that it showed answered."""

    output: str
    report: dict[str, Any]
    asked: dict[str, int]
    exit_code: int
    children: list[psutil.Process]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("demo") / "out.json"
    arguments = ("--requests", str(REQUESTS), "--seed", "3", "--json", str(path))
    with demo(*arguments, "--keep-serving") as process:
        lines = lines_until(process, "until you press Ctrl-C")
        children = descendants(process)
        shown = [word for line in lines for word in line.split() if "/admin/" in word]
        asked = {url: httpx.get(url, trust_env=False, timeout=10.0).status_code for url in shown}
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=40)
    output = "\n".join([*lines, rest])
    return Run(output, json.loads(path.read_text()), asked, process.returncode, children)


def test_every_request_has_a_decision_an_outcome_and_its_reward(
    run: Run,
) -> None:
    output, told = run.output, run.report
    log = told["log"]
    assert log["requests"] == log["judged"] == REQUESTS
    assert log["decisions"] == log["outcomes"] == log["feedback"] == log["rewards"] == REQUESTS
    assert log["learned"]
    assert log["snapshot_version"] > 1
    assert "nothing was lost" in output


def test_the_baselines_are_the_matrix_s_own_means(run: Run) -> None:
    told = run.report
    matrix = read_examples()
    matrix = matrix.rows(shuffled(matrix, REQUESTS, 3))
    quality, cost_usd = matrix.quality.mean(axis=0), matrix.cost_usd.mean(axis=0)
    baselines = told["baselines"]
    cheapest, best = int(cost_usd.argmin()), int(quality.argmax())
    for name, k in {"always_cheapest": cheapest, "always_best": best}.items():
        assert baselines[name]["quality"] == pytest.approx(quality[k], rel=1e-12)
        assert baselines[name]["cost_usd"] == pytest.approx(cost_usd[k], rel=1e-12)
        assert baselines[name]["shares"][matrix.models[k]] == 1.0
    assert baselines["random"]["quality"] == pytest.approx(quality.mean(), rel=1e-12)
    assert baselines["random"]["total_usd"] == pytest.approx(cost_usd.mean() * REQUESTS)
    router = told["router"]
    assert sum(router["shares"].values()) == pytest.approx(1.0)
    assert quality.min() <= router["quality"] <= matrix.quality.max(axis=1).mean()
    assert baselines["static_mix"]["cost_usd"] == pytest.approx(
        np.clip(router["cost_usd"], cost_usd.min(), cost_usd.max())
    )


def test_windows_add_up_to_the_whole(run: Run) -> None:
    output, told = run.output, run.report
    windows = told["windows"]
    assert [(w["first"], w["last"]) for w in windows] == [
        (first, first + 19) for first in range(1, REQUESTS, 20)
    ]
    for line, whole in (
        ([w["router"] for w in windows], told["router"]),
        (
            [w["baselines"]["always_best"] for w in windows],
            told["baselines"]["always_best"],
        ),
    ):
        assert np.mean([x["quality"] for x in line]) == pytest.approx(whole["quality"])
        assert np.mean([x["cost_usd"] for x in line]) == pytest.approx(whole["cost_usd"])
    for window in windows:
        assert f"{window['first']}-{window['last']}" in output


def test_without_a_terminal_the_output_is_plain_lines(
    run: Run,
) -> None:
    output, told = run.output, run.report
    assert "\x1b" not in output
    assert "\r" not in output
    assert f"{told['url']}/admin/decisions/" in output


def test_kept_serving_every_path_shown_answers_until_ctrl_c(run: Run) -> None:
    assert len(run.asked) == 3
    assert set(run.asked.values()) == {200}
    assert run.exit_code == 0


def test_nothing_stays_behind(run: Run) -> None:
    assert run.children
    assert_gone(run.children)
    assert not Path(run.report["folder"]).exists()


def test_ctrl_c_in_the_middle_ends_service_and_postgres() -> None:
    with demo("--requests", "400") as process:
        lines_until(process, "1-80")
        children = descendants(process)
        assert {"postgres"} <= {child.name() for child in children}
        folder = folder_of(children)
        assert folder.is_dir()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
        assert process.returncode == 130
        assert_gone(children)
        assert not folder.exists()


def test_a_killed_demo_takes_service_and_postgres_with_it() -> None:
    with demo("--requests", "50", "--keep-serving") as process:
        lines_until(process, "are up after")
        children = descendants(process)
        folder = folder_of(children)
        process.kill()
        if sys.platform == "linux":
            assert_gone(children)
    # Only what nobody is left to remove stays.
    shutil.rmtree(folder)


def test_a_service_that_does_not_start_is_quoted() -> None:
    matrix = read_examples().rows(np.arange(3))
    with workspace(keep=False) as place:
        prepare(place, matrix, 1e-3)
        place.recording_path.unlink()
        with (
            pytest.raises(DemoError, match=r"exit code 2 before(.|\n)*recording.jsonl cannot be"),
            running_service(place),
        ):
            raise AssertionError("a service without its recording became ready")
    assert not place.folder.exists()
