"""Every command that a page shows is one that the command line takes, with these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bandit_router.cli import app

TOP = Path(__file__).parents[2]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")))
FENCE = re.compile(r"^```(?:sh|console)\b.*?\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"(?<!`)`(bandit-router [^`\n]+)`(?!`)")
MAKE = re.compile(r'^make demo(?: +ARGS="(.*?)")?')
# What ends a command within a line, and what stands for any of a group's commands.
ENDS = ("|", ">", ">>", "&&", "&", ";")
ANY = "…"
COMMANDS = typer.main.get_command(app)


def commands(page: str) -> Iterator[list[str]]:
    """The arguments of each ``bandit-router`` and ``make demo`` in a page's blocks and spans."""
    blocks = [block.replace("\\\n", " ") for block in FENCE.findall(page)]
    for line in "\n".join(blocks).split("\n") + SPAN.findall(page):
        if made := MAKE.match(line):
            yield ["demo", *shlex.split(made[1] or "")]
        elif line.startswith("bandit-router "):
            words = shlex.split(line, comments=True)[1:]
            yield words[: next((i for i, word in enumerate(words) if word in ENDS), len(words))]


def parse(arguments: list[str]) -> None:
    """Take the arguments as the command line would, and run nothing.

    Raises typer's UsageError where it would refuse a command's or an option's name, or an
    option without its value. Values are not looked at: the files that they name are made up.
    """
    command, context = COMMANDS, typer.Context(COMMANDS, info_name="bandit-router")
    while isinstance(command, TyperGroup) and arguments and arguments[0][0] not in ("-", ANY):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, typer.Context(found, parent=context, info_name=name)
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_commands_shown_are_taken(page: Path) -> None:
    for arguments in commands(page.read_text()):
        parse(arguments)


@pytest.mark.parametrize(
    "line",
    [
        "bandit-router world office --page 3 | cat",
        "bandit-router keys mint",
        "bandit-router evaluate log.parquet \\\n  --html",
        'make demo ARGS="--requests 5 --budgets 1"',
    ],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    (arguments,) = commands(f"```sh\n{line}\n```\n")
    with pytest.raises(Exception, match=r"No such|requires an argument"):
        parse(arguments)


def test_the_pages_show_many_commands() -> None:
    assert sum(1 for page in PAGES for _ in commands(page.read_text())) > 60
