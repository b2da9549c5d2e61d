"""Pages that are made when the site is built: the references, from the code that they tell of."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cli_page
import configuration_page
import http_page
import python_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Links that hold from the top of the repository, and now are to hold from within docs/.
INTO_DOCS = re.compile(r"\]\(docs/")


def _from_top(name: str) -> str:
    return INTO_DOCS.sub("](", (ROOT / name).read_text(encoding="utf-8"))


PAGES: dict[str, Callable[[], str]] = {
    "reference/http.md": http_page.page,
    "reference/cli.md": cli_page.page,
    "reference/configuration.md": configuration_page.page,
    "changelog.md": lambda: _from_top("CHANGELOG.md"),
    "contributing.md": lambda: _from_top("CONTRIBUTING.md"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand in no file of docs/."""
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    for name, content in python_pages.pages().items():
        files.append(File.generated(config, f"reference/python/{name}.md", content=content))
    return files
