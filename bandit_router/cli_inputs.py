"""What the commands have in common: which configuration file, and which database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BANDIT_ROUTER_CONFIG",
        metavar="FILE",
        help="The TOML file. Without it: ./router.toml, or else one local model and no keys.",
    ),
]

UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A Postgres URL. Without it: store.url, DATABASE_URL, or the embedded server.",
    ),
]


def config_path(named: Path | None) -> Path:
    """The file to read: the one named, ./router.toml, or the built-in one, which is announced."""
    from bandit_router.config_file import DEFAULT_CONFIG

    if named is not None:
        return named
    if Path("router.toml").exists():
        return Path("router.toml")
    typer.echo(
        "no router.toml here: using the built-in configuration, one small local model and no "
        "keys. `cp router.example.toml router.toml` starts one of your own",
        err=True,
    )
    return DEFAULT_CONFIG


@contextmanager
def database(config: Path | None, url: str | None) -> Iterator[str]:
    """The URL to work on; a Postgres of our own runs meanwhile where none is named."""
    from bandit_router.config_file import load_config
    from bandit_router.store.embedded import EmbeddedPostgres

    store = None if url else load_config(config_path(config)).store
    named = url or (store and store.url) or os.environ.get("DATABASE_URL")
    if named:
        yield named
        return
    with EmbeddedPostgres(store.data_dir if store else None) as server:
        yield server.url
