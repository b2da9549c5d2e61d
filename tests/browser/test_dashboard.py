"""The dashboard in a real browser, in front of the demo's own process: while it runs, and after."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from dashboard_page import accessible, filled, opened, requests_shown
from demo_process import demo, lines_until

REQUESTS = 600
PANELS = (
    "advice",
    "alarms",
    "trends",
    "models",
    "frontier",
    "posterior",
    "policy",
    "segments",
    "exploration",
    "levers",
)


@dataclass
class Demo:
    """A demo that keeps serving. over: set once it has sent its last request."""

    url: str
    over: threading.Event

    def admin(self, door: str) -> Any:
        answer = httpx.get(f"{self.url}/admin/{door}", timeout=20.0, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def running() -> Iterator[Demo]:
    with demo("--requests", str(REQUESTS), "--clients", "2", "--keep-serving") as process:
        told = lines_until(process, "are up after")[-1]
        address = re.search(r"http://127\.0\.0\.1:\d+", told)
        assert address is not None, told
        found = Demo(address[0], threading.Event())

        def read_on() -> None:
            lines_until(process, "until you press Ctrl-C")
            found.over.set()

        reader = threading.Thread(target=read_on)
        reader.start()
        yield found
        process.send_signal(signal.SIGINT)
        reader.join(60.0)
        assert process.wait(60.0) == 0


@pytest.fixture
def wide(browser: Browser, running: Demo) -> Iterator[Page]:
    with opened(browser, running.url, 1280) as page:
        yield page


def test_it_paints_within_a_second_and_follows_a_running_demo_by_itself(
    wide: Page, running: Demo
) -> None:
    painted_ms = wide.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    assert painted_ms < 1000
    wide.wait_for_selector("#decision-rows tbody tr")
    before = requests_shown(wide)
    assert before < REQUESTS
    assert not running.over.is_set()
    newest = wide.locator("#decision-rows tbody tr").first.get_attribute("data-id")
    wide.wait_for_function(
        "before => +document.querySelector('.tile .figure').textContent.replace(/,/g, '') > before",
        arg=before,
    )
    wide.wait_for_function(
        "id => document.querySelector('#decision-rows tbody tr').dataset.id !== id", arg=newest
    )
    wide.get_by_role("button", name="Pause").click()
    still = requests_shown(wide)
    wide.wait_for_timeout(2600)
    assert requests_shown(wide) == still
    assert running.over.wait(120.0)
    wide.get_by_role("button", name="Resume").click()
    wide.wait_for_function(
        f"() => document.querySelector('.tile .figure').textContent === '{REQUESTS}'",
        timeout=60_000,
    )


def test_every_panel_has_data(wide: Page, artefacts: Path) -> None:
    filled(wide)
    for name in PANELS:
        panel = wide.locator(f"#{name}")
        expect(panel).to_be_visible()
        assert panel.locator(".body").inner_text().strip() != "" or panel.locator("svg").count()
        assert panel.locator(".empty").count() == 0, name
    for figure in wide.locator(".tile .figure").all():
        assert figure.inner_text() not in ("", "–"), figure.locator("..").inner_text()
    assert wide.locator("#trends svg rect").count() > 0
    assert wide.locator("#trends svg path").count() > 3
    assert wide.locator("#models tbody tr").count() >= 3
    expect(wide.locator("#frontier")).to_contain_text("saved")
    expect(wide.locator("#frontier svg")).to_contain_text("always")
    expect(wide.locator("#frontier svg")).to_contain_text("the router")
    expect(wide.locator("#posterior svg")).to_contain_text("llama")
    expect(wide.locator("#segments")).to_contain_text("tokens")
    wide.screenshot(path=str(artefacts / "dashboard-1280.png"), full_page=True)


def test_filters_narrow_the_list_and_survive_the_way_to_a_decision_and_back(
    wide: Page, artefacts: Path
) -> None:
    filled(wide)
    model = "mistralai/mistral-large-2512"
    wide.select_option("#filter-model", model)
    wide.wait_for_function(
        "model => { const rows = [...document.querySelectorAll('#decision-rows tbody tr')];"
        "return rows.length && rows.every(row => row.children[1].textContent === model); }",
        arg=model,
    )
    wide.select_option("#filter-has_feedback", "true")
    wide.locator("#decision-rows tbody tr a").first.click()
    expect(wide.locator("#why h2")).to_have_text(f"Why {model}?")
    assert wide.locator("#why tbody tr").count() >= 3
    assert wide.locator("#moved").is_visible()
    expect(wide.locator("#record")).to_contain_text("equal to what was logged")
    wide.screenshot(path=str(artefacts / "dashboard-why.png"), full_page=True)
    accessible(wide)
    wide.click("#back")
    wide.wait_for_selector("#decision-rows tbody tr")
    assert wide.locator("#filter-model").input_value() == model
    assert wide.locator("#filter-has_feedback").input_value() == "true"
    wide.click("#clear-filters")
    expect(wide.locator("#filter-model")).to_have_value("")


def test_freezing_and_rolling_back_by_clicking_is_done_and_audited(
    wide: Page, running: Demo
) -> None:
    filled(wide)
    expect(wide.locator("#frozen")).to_have_text("exploring")
    wide.click("#freeze")
    wide.click("#confirm")
    expect(wide.locator("#frozen")).to_have_text("exploration frozen")
    assert running.admin("live")["frozen"] is True
    wide.click("#freeze")
    wide.click("#confirm")
    expect(wide.locator("#frozen")).to_have_text("exploring")
    button = wide.locator("[data-rollback]").last
    version = int(button.get_attribute("data-rollback") or 0)
    button.click()
    expect(wide.locator("dialog")).to_contain_text(f"Back to snapshot {version}?")
    wide.click("#confirm")
    expect(wide.locator("#lever-state")).to_have_text(f"Rolled back to snapshot {version}.")
    audited = next(iter(running.admin("audit").values()))
    actions = [entry["action"] for entry in audited]
    for action in ("exploration.freeze", "exploration.unfreeze", "snapshots.rollback"):
        assert action in actions


def test_the_keyboard_is_enough(wide: Page, running: Demo) -> None:
    filled(wide)
    wide.keyboard.press("Tab")
    assert wide.evaluate("document.activeElement.className") == "skip"
    reach(wide, "filter-mode")
    wide.keyboard.press("o")
    expect(wide.locator("#filter-mode")).to_have_value("override")
    expect(wide.locator("#no-decisions")).to_be_visible()
    reach(wide, "clear-filters")
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#decision-rows tbody tr")
    reach(wide, "decision-rows")
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#why")
    reach(wide, "back", most=4)
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#decision-rows tbody tr")
    wide.keyboard.press("Home")
    reach(wide, "freeze")
    wide.keyboard.press("Enter")
    wide.wait_for_selector("dialog")
    wide.keyboard.press("Escape")
    expect(wide.locator("dialog")).to_have_count(0)
    assert running.admin("live")["frozen"] is False


def reach(page: Page, name: str, most: int = 120) -> None:
    """Press Tab until the element of this id, or one within it, has the focus."""
    for _ in range(most):
        if page.evaluate(
            "name => document.activeElement.id === name"
            "|| document.activeElement.matches(`#${name} a`)",
            name,
        ):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"#{name} cannot be reached with the Tab key")


def test_nothing_sticks_out_on_a_phone(browser: Browser, running: Demo, artefacts: Path) -> None:
    with opened(browser, running.url, 390) as phone:
        filled(phone)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        accessible(phone)
        phone.screenshot(path=str(artefacts / "dashboard-390.png"), full_page=True)
        phone.locator("#decision-rows tbody tr a").first.click()
        phone.wait_for_selector("#why")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_axe_finds_nothing_serious_in_light_or_dark(
    wide: Page, browser: Browser, running: Demo, artefacts: Path
) -> None:
    with opened(browser, running.url, 1280, "dark") as dark:
        backgrounds = []
        for page in (wide, dark):
            accessible(filled(page))
            backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert backgrounds[0] != backgrounds[1]
        dark.screenshot(path=str(artefacts / "dashboard-dark.png"), full_page=True)
        dark.get_by_role("button", name="Theme").click()
        expect(dark.get_by_role("button", name="Theme: light")).to_be_visible()
        assert dark.evaluate("getComputedStyle(document.body).backgroundColor") == backgrounds[0]
