"""The challenger's panel: started, given its share, promoted and taken back by clicking."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from dashboard_page import accessible, opened
from service_process import service_process

CHALLENGER = (
    '[[challengers]]\nname = "large-only"\npolicy = { name = "fixed", model = "large" }\n'
    "share = 0.25\n"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A router with a declared challenger and one decision."""
    folder = Path(tempfile.mkdtemp(prefix="br-"))
    folder.chmod(0o755)
    rows = [
        {"prompt_id": "p", "prompt": "Why?", "model": model, "quality": 0.5, "cost_usd": 1e-4}
        for model in ("small", "large")
    ]
    (folder / "recording.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = "".join(
        f'[[models]]\nname = "{row["model"]}"\nprovider = "replayed"\npath = "recording.jsonl"\n'
        for row in rows
    )
    config = folder / "router.toml"
    config.write_text(
        models + CHALLENGER + f"[store]\ndata_dir = {json.dumps(str(folder / 'data'))}\n"
        '[features]\ntext = "none"\n'
    )
    with service_process(config) as process:
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": "Why?"}],
            "metadata": {"prompt_id": "p"},
        }
        answer = httpx.post(f"{process.url}/v1/route", json=body, trust_env=False, timeout=20.0)
        assert answer.status_code == 200, answer.text
        yield process.url
    shutil.rmtree(folder)


def step(page: Page, name: str) -> None:
    """Press a step's button and say yes."""
    page.locator(f"#challengers [data-step={name}]").click()
    page.locator("dialog #confirm").click()


def test_a_trial_is_walked_through_and_back_by_clicking(
    browser: Browser, url: str, artefacts: Path
) -> None:
    with opened(browser, url, 1280) as page:
        panel = page.locator("#challengers")
        expect(page.locator("#champion")).to_have_text("thompson")
        step(page, "start")
        expect(page.locator("#trial-stage")).to_have_text("shadow")
        expect(page.locator("#trial-verdict")).to_contain_text("cannot be said yet")
        step(page, "canary")
        expect(page.locator("#trial-stage")).to_have_text("canary")
        expect(panel).to_contain_text("chooses for 25 % of requests")
        accessible(page)
        panel.screenshot(path=artefacts / "challengers.png")
        step(page, "shadow")
        expect(page.locator("#trial-held")).to_contain_text("from the dashboard")
        step(page, "promote")
        expect(page.locator("#champion")).to_contain_text("fixed~large-only-")
        step(page, "rollback")
        expect(page.locator("#champion")).to_have_text("thompson")
        expect(panel.locator("tbody tr")).to_have_count(5)


def test_the_panel_fits_a_phone(browser: Browser, url: str) -> None:
    with opened(browser, url, 390, "dark") as page:
        expect(page.locator("#champion")).to_have_text("thompson")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
