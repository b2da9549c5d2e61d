"""The report in a real browser: it draws, says nothing to the console, and asks nothing of the
network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from simulations.report import write_page
from simulations.simulate import make_study, run_study
from simulations.simulate_report import simulation_content
from simulations.world import named_world

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
