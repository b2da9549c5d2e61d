"""The dashboard as a reader has it: opened at a width, watched for errors and foreign requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page


@contextmanager
def opened(browser: Browser, url: str, width: int, scheme: Any = "light") -> Iterator[Page]:
    """A page of its own. At the end nothing was said to the console, and no other host asked."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
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
            None if request.url.startswith(url.rstrip("/") + "/") else foreign.append(request.url)
        ),
    )
    page.add_init_script("sessionStorage.setItem('window', '15m')")
    page.goto("/dashboard")
    yield page
    assert errors == []
    assert foreign == []
    context.close()


def filled(page: Page) -> Page:
    """The page once its slowest panels have come."""
    page.wait_for_selector("#decision-rows tbody tr")
    page.wait_for_selector("#advice li")
    page.wait_for_selector("#levers table")
    return page


def requests_shown(page: Page) -> int:
    """The first figure."""
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
