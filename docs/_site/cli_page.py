"""The command line's reference: what --help says, command by command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.cli import get_docs_for_click

from bandit_router.cli import app

HEAD = "Made from what `bandit-router COMMAND --help` says.\n\n"


def page() -> str:
    """The page in Markdown."""
    command = typer.main.get_command(app)
    for inner in _within(command):
        # Lists of commands would else cut each sentence short.
        inner.short_help = (inner.help or "").partition("\n\n")[0]
    context = typer.Context(command, obj={"TYPER_RICH_MARKUP_MODE": "rich"})
    title, _, rest = get_docs_for_click(
        obj=command, ctx=context, name="bandit-router", title="The command line"
    ).partition("\n\n")
    return f"{title}\n\n{HEAD}{rest}"


def _within(command: Any) -> Iterator[Any]:
    for inner in getattr(command, "commands", {}).values():
        yield inner
        yield from _within(inner)
