"""The command line's reference: what --help says, command by command."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click

from bandit_router.cli import app

HEAD = "Made from what `bandit-router COMMAND --help` says.\n\n"


def page() -> str:
    """The page in Markdown."""
    command = typer.main.get_command(app)
    context = typer.Context(command, obj={"TYPER_RICH_MARKUP_MODE": "rich"})
    title, _, rest = get_docs_for_click(
        obj=command, ctx=context, name="bandit-router", title="The command line"
    ).partition("\n\n")
    return f"{title}\n\n{HEAD}{rest}"
