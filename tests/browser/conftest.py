"""A real headless Chromium, Debian's own; pages are driven with Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

# Where screenshots go, for people to look at; git ignores it.
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        # CI installs one; on a developer's machine without it the rest of the suite still counts.
        assert "CI" not in os.environ, "CI needs chromium: apt-get install chromium"
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    return executable


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all pages of a file; each test opens its own context. Not of a process: the
    driver keeps an event loop running, beside which no other file could run one."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """The folder for screenshots."""
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS
