"""The reports in a real browser: they draw, say nothing to the console, and ask nothing of the
network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from bandit_router.cli import run
from bandit_router.config import ExplorationConfig
from simulations.logs.files import write_traffic
from simulations.matrix import frame_of
from simulations.notebook import evaluate
from simulations.report import write_page
from simulations.simulate import make_study, run_study
from simulations.simulate_report import simulation_content
from simulations.world import named_world, simulate_traffic

WIDTHS = (1280, 390)
HOSTILE = '</script><script>document.title="taken"</script>'


@pytest.fixture(scope="module")
def simulation_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = named_world("office")
    rng = np.random.default_rng(0)
    matrix = world.matrix(world.contexts(600, rng, texts=True), rng)
    study = make_study(
        matrix,
        policy="thompson",
        budget_usd=8e-4,
        warmup_split=None,
        score_split=None,
        text="none",
        metadata=("category",),
    )
    path = tmp_path_factory.mktemp("report") / "simulation.html"
    write_page(simulation_content(study, run_study(study, range(2), 1)), path)
    return path


def look(
    browser: Browser, path: Path, width: int, picture: Path, charts: set[str], text: str
) -> None:
    """Open a report at a width, hold it to its promises, and keep a picture of it."""
    told: list[str] = []
    asked: list[str] = []
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-drawn=yes]", timeout=30_000)
        page.screenshot(path=picture, full_page=True)
        assert told == []
        assert asked == [path.as_uri()]
        drawn = page.eval_on_selector_all(
            ".chart", "all => all.filter(c => c.querySelector('svg path')).map(c => c.id)"
        )
        assert set(drawn) == {f"chart-{name}" for name in charts}
        assert text in page.inner_text("main")
        assert page.title() != "taken"
        # Nothing makes the page wider than the window, and no plot is wider than its card.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (
            page.eval_on_selector_all(
                ".chart svg",
                "all => all.filter(s => s.getBoundingClientRect().right"
                " > s.closest('section').getBoundingClientRect().right).length",
            )
            == 0
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_simulation_report_opens_alone_and_fits(
    browser: Browser, artefacts: Path, simulation_page: Path, width: int
) -> None:
    look(
        browser,
        simulation_page,
        width,
        artefacts / f"simulation-report-{width}.png",
        {"frontier", "hard", "segments", "over_time", "shares"},
        "At the same spend the best static mix",
    )


@pytest.fixture(scope="module")
def evaluation_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate --html` writes: a target that is fine, one that is refused, a hostile name."""
    explored = ExplorationConfig(floor=0.1, floor_spend_share=1.0, floor_quality_loss=1.0)
    rng = np.random.default_rng(0)
    traffic = simulate_traffic(
        named_world("office"), 2500, rng, budget_usd=2e-3, exploration=explored
    )
    greedy = np.zeros((len(traffic.log), 4))
    # The log was never without the dearest model, and here it is asked about an arm it had not.
    pmf = np.asarray(traffic.log["pmf"].to_list())
    greedy[:, 0] = 1.0
    some = 0.7 * pmf + 0.3 * greedy
    folder = tmp_path_factory.mktemp("evaluation")
    log = folder / "log.parquet"
    write_traffic(traffic.log, log)
    targets = {"30 % more to mini": some, "mini alone": greedy, HOSTILE: some}
    path = folder / "evaluation.html"
    evaluate(log, targets, segment="task").save_page(path)
    return path


@pytest.fixture(scope="module")
def what_if_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `what-if --html` writes, from the command itself."""
    folder = tmp_path_factory.mktemp("what-if")
    data, path = folder / "matrix.parquet", folder / "what-if.html"
    world = named_world("office")
    rng = np.random.default_rng(0)
    frame_of(world.matrix(world.contexts(200, rng, texts=True), rng)).write_parquet(data)
    changes = ["--price", "grand=0.25", "--remove", "coder", "--add"]
    changes += ["newcomer:quality=0.9,cost=5e-4,like=grand"]
    replay = ["--budget", "1e-3", "--seeds", "2", "--jobs", "1", "--feature-set", "none"]
    assert run(["what-if", str(data), *changes, *replay, "--html", str(path)]) == 0
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_the_evaluation_report_opens_alone_and_fits(
    browser: Browser, artefacts: Path, evaluation_page: Path, width: int
) -> None:
    look(
        browser,
        evaluation_page,
        width,
        artefacts / f"evaluation-report-{width}.png",
        {"frontier", "hard", "segments", "over_time", "shares"},
        "30 % more to mini",
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_what_if_report_opens_alone_and_fits(
    browser: Browser, artefacts: Path, what_if_page: Path, width: int
) -> None:
    look(
        browser,
        what_if_page,
        width,
        artefacts / f"what-if-report-{width}.png",
        {"frontier"},
        "What if grand costs",
    )
