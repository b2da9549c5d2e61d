"""The dashboard in a real browser, before a real service under replayed traffic."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from service_process import service_process

HOSTILE = (
    "<img src=x onerror=\"document.title='broken into'\">"
    "<script>document.title='broken into'</script>"
)
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


class Traffic:
    """Clients that ask and judge until they are told to stop."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=20.0, trust_env=False)
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def ask(self, text: str, **metadata: str) -> str:
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": text}],
            "metadata": metadata,
        }
        answer = self.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        decision_id = answer.headers["x-router-decision-id"]
        good = answer.headers["x-router-model"] == "large" or self.sent % 3 == 0
        judged = {
            "decision_id": decision_id,
            "metric": "quality",
            "value": 0.95 if good else 0.2,
            "comment": HOSTILE,
        }
        assert self.client.post("/v1/feedback", json=judged).status_code == 200
        self.sent += 1
        return decision_id

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.ask(f"Prompt {self.sent % 4}", task="math" if self.sent % 2 else "chat")

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.client.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    folder = tmp_path_factory.mktemp("dashboard")
    for parent in (folder, *folder.parents):
        if parent.name:
            parent.chmod(parent.stat().st_mode | 0o011)
    config = folder / "router.toml"
    models = "".join(
        f'[[models]]\nname = "{name}"\nprovider = "replayed"\npath = "recording.jsonl"\n'
        for name in ("small", "large")
    )
    config.write_text(
        models + "[policy]\nbudget_usd_per_request = 0.002\n[learner]\ninterval_s = 0.1\n"
        '[store]\ndata_dir = "data"\nkeep_prompts = true\n'
    )
    _write_recording(folder / "recording.jsonl")
    with service_process(config) as process:
        traffic = Traffic(process.url)
        for number in range(60):
            traffic.ask(f"Prompt {number % 4}", task="math" if number % 2 else "chat")
        traffic.hostile = traffic.ask(HOSTILE, task=HOSTILE[:60])  # type: ignore[attr-defined]
        with traffic:
            yield traffic


def _write_recording(path: Path) -> None:
    import json

    prompts = [f"Prompt {number}" for number in range(4)] + [HOSTILE]
    lines = [
        {
            "prompt_id": f"p{number}",
            "prompt": prompt,
            "model": model,
            "quality": quality,
            "cost_usd": cost_usd,
        }
        for number, prompt in enumerate(prompts)
        for model, quality, cost_usd in (("small", 0.5, 1e-4), ("large", 0.95, 4e-3))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def opened(browser: Browser, service: Traffic, width: int, scheme: Any = "light") -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        base_url=str(service.client.base_url),
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    foreign: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            # The browser's own note of a refusal; what it means is asserted where it matters.
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            foreign.append(request.url)
            if not request.url.startswith(str(service.client.base_url).rstrip("/"))
            else None
        ),
    )
    page.add_init_script("sessionStorage.setItem('window', '15m')")
    page.goto("/dashboard")
    page.wait_for_selector("#decision-rows tbody tr")
    page.wait_for_selector("#advice li")
    yield page
    assert errors == []
    assert foreign == []
    context.close()


@pytest.fixture
def wide(browser: Browser, service: Traffic) -> Iterator[Page]:
    yield from opened(browser, service, 1280)


@pytest.fixture
def phone(browser: Browser, service: Traffic) -> Iterator[Page]:
    yield from opened(browser, service, 390)


@pytest.fixture
def dark(browser: Browser, service: Traffic) -> Iterator[Page]:
    yield from opened(browser, service, 1280, "dark")


def requests_shown(page: Page) -> int:
    return int(page.locator(".tile .figure").first.inner_text().replace(",", ""))


def accessible(page: Page) -> None:
    """No finding of axe-core that is serious or critical."""
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_it_paints_within_a_second_and_updates_by_itself(wide: Page) -> None:
    painted_ms = wide.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    assert painted_ms < 1000
    before = requests_shown(wide)
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


def test_every_panel_has_data(wide: Page, artefacts: Path) -> None:
    wide.wait_for_selector("#levers table")
    for name in PANELS:
        panel = wide.locator(f"#{name}")
        expect(panel).to_be_visible()
        assert panel.locator(".body").inner_text().strip() != "" or panel.locator("svg").count()
        if name != "alarms":
            assert panel.locator(".empty").count() == 0, name
    assert wide.locator("#trends svg rect").count() > 0
    assert wide.locator("#trends svg path").count() > 3
    assert wide.locator("#models tbody tr").count() == 2
    expect(wide.locator("#frontier")).to_contain_text("saved")
    expect(wide.locator("#frontier svg")).to_contain_text("always large")
    expect(wide.locator("#posterior svg")).to_contain_text("small")
    expect(wide.locator("#segments")).to_contain_text("task: math")
    expect(wide.locator("#advice")).to_contain_text("judged")
    wide.screenshot(path=str(artefacts / "dashboard-1280.png"), full_page=True)


def test_filters_narrow_the_list_and_survive_the_way_to_a_decision_and_back(
    wide: Page, artefacts: Path
) -> None:
    wide.select_option("#filter-model", "large")
    wide.wait_for_function(
        "() => { const rows = [...document.querySelectorAll('#decision-rows tbody tr')];"
        "return rows.length && rows.every(row => row.children[1].textContent === 'large'); }"
    )
    wide.locator("#decision-rows tbody tr a").first.click()
    expect(wide.locator("#why h2")).to_have_text("Why large?")
    assert wide.locator("#why tbody tr").count() == 2
    assert wide.locator("#moved").is_visible()
    expect(wide.locator("#record")).to_contain_text("equal to what was logged")
    wide.screenshot(path=str(artefacts / "dashboard-why.png"), full_page=True)
    wide.click("#back")
    wide.wait_for_selector("#decision-rows tbody tr")
    assert wide.locator("#filter-model").input_value() == "large"
    wide.click("#clear-filters")
    expect(wide.locator("#filter-model")).to_have_value("")


def test_a_prompt_with_html_and_script_is_shown_and_does_nothing(
    wide: Page, service: Traffic
) -> None:
    wide.goto(f"/dashboard#/decision/{service.hostile}")  # type: ignore[attr-defined]
    expect(wide.locator("#prompt")).to_contain_text("onerror=")
    expect(wide.locator("#followed")).to_contain_text("<script>")
    expect(wide.locator("#record")).to_contain_text("<img src=x")
    wide.click("#back")
    expect(wide.locator("#segments")).to_contain_text("<img src=x")
    assert wide.title() == "bandit-router"
    assert wide.locator("main img").count() == 0


def test_freezing_and_rolling_back_by_clicking_is_done_and_audited(
    wide: Page, service: Traffic
) -> None:
    expect(wide.locator("#frozen")).to_have_text("exploring")
    wide.click("#freeze")
    wide.click("#confirm")
    expect(wide.locator("#frozen")).to_have_text("exploration frozen")
    assert service.client.get("/admin/live").json()["frozen"] is True
    wide.click("#freeze")
    wide.click("#confirm")
    expect(wide.locator("#frozen")).to_have_text("exploring")
    button = wide.locator("[data-rollback]").last
    version = int(button.get_attribute("data-rollback") or 0)
    button.click()
    expect(wide.locator("dialog")).to_contain_text(f"Back to snapshot {version}?")
    wide.click("#confirm")
    expect(wide.locator("#lever-state")).to_have_text(f"Rolled back to snapshot {version}.")
    audited = service.client.get("/admin/audit").json()
    actions = [entry["action"] for entry in next(iter(audited.values()))]
    for action in ("exploration.freeze", "exploration.unfreeze", "snapshots.rollback"):
        assert action in actions


def test_the_keyboard_is_enough(wide: Page) -> None:
    wide.keyboard.press("Tab")
    assert wide.evaluate("document.activeElement.className") == "skip"
    wide.locator("#filter-mode").focus()
    wide.keyboard.press("o")
    expect(wide.locator("#filter-mode")).to_have_value("override")
    expect(wide.locator("#no-decisions")).to_be_visible()
    wide.locator("#clear-filters").focus()
    wide.keyboard.press("Enter")
    link = wide.locator("#decision-rows tbody tr a").first
    link.focus()
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#why")
    for _ in range(4):
        if wide.evaluate("document.activeElement.id") == "back":
            break
        wide.keyboard.press("Tab")
    assert wide.evaluate("document.activeElement.id") == "back"
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#decision-rows tbody tr")


def test_nothing_sticks_out_on_a_phone(phone: Page, artefacts: Path) -> None:
    phone.wait_for_selector("#levers table")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    accessible(phone)
    phone.screenshot(path=str(artefacts / "dashboard-390.png"), full_page=True)


def test_axe_finds_nothing_serious_in_light_or_dark(
    wide: Page, dark: Page, artefacts: Path
) -> None:
    for page in (wide, dark):
        page.wait_for_selector("#levers table")
        accessible(page)
    backgrounds = [
        page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (wide, dark)
    ]
    assert backgrounds[0] != backgrounds[1]
    dark.screenshot(path=str(artefacts / "dashboard-dark.png"), full_page=True)
    wide.click("#decision-rows tbody tr a")
    wide.wait_for_selector("#why")
    accessible(wide)
    dark.get_by_role("button", name="Theme").click()
    expect(dark.get_by_role("button", name="Theme: light")).to_be_visible()
    assert dark.evaluate("getComputedStyle(document.body).backgroundColor") == backgrounds[0]


def test_the_policy_lets_only_the_pages_own_files_run(service: Traffic) -> None:
    for name in ("", "/main.js", "/dashboard.css"):
        got = service.client.get(f"/dashboard{name}")
        assert got.status_code == 200
        policy = got.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert got.headers["content-encoding"] == "gzip"
        again = service.client.get(
            f"/dashboard{name}", headers={"if-none-match": got.headers["etag"]}
        )
        assert again.status_code == 304
    for name in ("routes.py", "..%2froutes.py", "%2e%2e"):
        assert service.client.get(f"/dashboard/{name}").status_code == 404
