"""The documentation site: it builds without a warning, asks nothing of others, and can be read."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
# Of each kind one: prose with pictures, a how-to, what is made from HTTP, types and code.
PAGES = ("index", "quick-start", "reference/http", "reference/cli", "reference/python/policies")
SVG = "{http://www.w3.org/2000/svg}"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a dead link or an omitted page is an error."""
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    built = subprocess.run(
        [*command, str(made)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return made


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        """Nothing on standard error."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where a plain web server shows the site."""
    handler = partial(_Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("scheme", "names"), [("light", PAGES), ("dark", ("quick-start",))])
def test_pages_ask_nothing_of_anybody_and_have_no_serious_barrier(
    address: str,
    browser: Browser,
    artefacts: Path,
    scheme: Literal["light", "dark"],
    names: tuple[str, ...],
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in names:
        page.goto(f"{address}{name}.html", wait_until="load")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response
        serious = [
            (violation["id"], [node["target"] for node in violation["nodes"]][:3])
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], name
        page.screenshot(path=artefacts / f"site-{scheme}-{name.replace('/', '-')}.png")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
    context.close()


def test_what_is_looked_for_is_found_without_asking_anybody_else(
    address: str, browser: Browser
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(address, wait_until="load")
    page.get_by_placeholder("Search").click()
    page.keyboard.type("propensity")
    page.locator(".md-search-result__item").first.wait_for(timeout=60_000)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


def test_references_hold_what_the_code_has(site: Path) -> None:
    doors = (site / "reference/http.html").read_text()
    for door in ("POST /v1/chat/completions", "POST /v1/feedback", "GET /admin/decisions"):
        assert door in doors
    assert "budget_usd_per_request" in (site / "reference/configuration.html").read_text()
    assert "bandit-router keys create" in (site / "reference/cli.html").read_text()
    assert "argmax_pmf" in (site / "reference/python/mathematics.html").read_text()


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/pictures").glob("*.svg")), ids=str)
def test_every_picture_says_what_it_shows(picture: Path) -> None:
    root = ElementTree.fromstring(picture.read_text())
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert title is not None
    assert title.text
    assert description is not None
    assert len(description.text or "") > 80
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
