"""Who may see the dashboard; and hostile prompts, labels and comments, which can do nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from dashboard_page import accessible, opened
from service_process import service_process

HOSTILE = (
    "<img src=x onerror=\"document.title='broken into'\">"
    "<script>document.title='broken into'</script>"
)
LABEL = "<img src=x onerror=alert(1)>"


@dataclass
class Service:
    """A router that asks for keys, with one decision over a hostile prompt."""

    url: str
    key: str
    decision_id: str


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that Postgres' own user may enter, whatever pytest does with its own."""
    made = Path(tempfile.mkdtemp(prefix="br-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    rows = [
        {"prompt_id": "p", "prompt": HOSTILE, "model": model, "quality": 0.5, "cost_usd": 1e-4}
        for model in ("small", "large")
    ]
    (folder / "recording.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = "".join(
        f"[[models]]\nname = {json.dumps(row['model'])}\n"
        'provider = "replayed"\npath = "recording.jsonl"\n'
        for row in rows
    )
    config = folder / "router.toml"
    config.write_text(
        f'{models}[store]\ndata_dir = "data"\nkeep_prompts = true\n'
        "[server]\nrequire_api_key = true\n"
        '[cascades.careful]\nfirst = ["small"]\nthen = ["large"]\n'
        '[[cascades.careful.checks]]\nkind = "regex"\npattern = "never said"\n'
    )
    with service_process(config) as process:
        program = "from bandit_router.cli import main; main()"
        scopes = [word for scope in ("route", "feedback", "admin") for word in ("--scope", scope)]
        made = subprocess.run(
            [sys.executable, "-c", program, "keys", "create", "ops", *scopes, "--config", config],
            check=True,
            capture_output=True,
            text=True,
        )
        key = made.stdout.strip()
        yield Service(process.url, key, ask(process.url, key))


def ask(url: str, key: str) -> str:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=20.0, trust_env=False) as client:
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": HOSTILE}],
            "metadata": {"task": LABEL},
        }
        asked = client.post("/v1/chat/completions", json=body)
        assert asked.status_code == 200, asked.text
        decision_id = asked.headers["x-router-decision-id"]
        judged = {
            "decision_id": decision_id,
            "metric": "quality",
            "value": 0.9,
            "comment": HOSTILE,
        }
        assert client.post("/v1/feedback", json=judged).status_code == 200
    return decision_id


def test_it_asks_for_a_key_and_shows_nothing_without(
    browser: Browser, service: Service, artefacts: Path
) -> None:
    with opened(browser, service.url, 1280) as page:
        expect(page.locator("form.door")).to_contain_text("scope admin")
        accessible(page)
        page.screenshot(path=str(artefacts / "dashboard-key.png"))
        page.locator("#key").fill("br-wrong")
        page.keyboard.press("Enter")
        expect(page.locator("form.door .error")).to_contain_text("key")
        assert page.locator("#tiles").count() == 0
        page.locator("#key").fill(service.key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#decision-rows tbody tr")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("form.door")
        assert page.evaluate("sessionStorage.getItem('bandit-router-key')") is None


def test_html_in_prompts_labels_and_comments_is_shown_and_does_nothing(
    browser: Browser, service: Service
) -> None:
    with opened(browser, service.url, 1280) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        page.locator("#key").fill(service.key)
        page.keyboard.press("Enter")
        # The learner's process adds it up every second, and the page looks every few.
        expect(page.locator("#segments")).to_contain_text(LABEL, timeout=20_000)
        page.goto(f"/dashboard#/decision/{service.decision_id}")
        expect(page.locator("#prompt")).to_contain_text("onerror=")
        expect(page.locator("#followed")).to_contain_text("<script>")
        expect(page.locator("#record")).to_contain_text(LABEL)
        page.goto(f"/dashboard#/?model={HOSTILE}&status={HOSTILE}&mode=%22%3E{HOSTILE}")
        page.wait_for_selector("#state.broken")
        assert page.title() == "bandit-router"
        assert page.locator("main img, main script").count() == 0


def test_the_share_of_cascades_that_went_on_is_a_figure_where_there_are_any(
    browser: Browser, service: Service
) -> None:
    with opened(browser, service.url, 1280) as page:
        page.locator("#key").fill(service.key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#advice li")
        tile = page.locator(".tile", has_text="Cascades")
        expect(tile).to_have_count(0)
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": HOSTILE}],
            "router": {"cascade": "careful"},
        }
        headers = {"authorization": f"Bearer {service.key}"}
        with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as client:
            asked = client.post("/v1/chat/completions", json=body, timeout=20.0)
        assert asked.headers["x-router-cascade"] == "escalated", asked.text
        expect(tile.locator(".figure")).to_have_text("100.0 %", timeout=20_000)
        expect(tile).to_contain_text("1 of 1 went on to a stronger model")


def test_the_policy_lets_only_the_pages_own_files_run(service: Service) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        for name in ("", "/main.js", "/dashboard.css"):
            got = client.get(f"/dashboard{name}")
            assert got.status_code == 200
            policy = got.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert got.headers["content-encoding"] == "gzip"
            again = client.get(f"/dashboard{name}", headers={"if-none-match": got.headers["etag"]})
            assert again.status_code == 304
        for name in ("routes.py", "..%2froutes.py", "%2e%2e"):
            assert client.get(f"/dashboard/{name}").status_code == 404
