"""``bandit-router keys``: who may call a router that listens beyond loopback."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bandit_router.cli_inputs import ConfigOption, UrlOption, database
from bandit_router.errors import InvalidRequest

if TYPE_CHECKING:
    from bandit_router.store.api_keys import ApiKeys

Found = TypeVar("Found")

keys = typer.Typer(
    name="keys",
    help="Make, list and revoke the API keys that callers of the router show.",
    no_args_is_help=True,
)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help='Whose key it is: "web shop", say.')],
    scope: Annotated[
        list[str],
        typer.Option(help="What it may do: route, feedback or admin. May be given repeatedly."),
    ] = ["route", "feedback"],  # noqa: B006  typer copies it
    tenant: Annotated[str, typer.Option(help="Under which tenant its calls are logged.")] = (
        "default"
    ),
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Most in a window: usd_per_day=5, requests_per_minute=60 ..."),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Make a key and show it, this once: only its hash is stored."""
    from bandit_router.store.api_keys import Scope, limits_from

    known = [known.value for known in Scope]
    unknown = sorted(set(scope) - set(known))
    if unknown:
        raise InvalidRequest(f"no scope '{unknown[0]}': choose from {', '.join(known)}")
    scopes = [Scope(word) for word in scope]
    made, clear = _with_keys(
        config, url, lambda store: store.create(name, tenant, scopes, limits_from(limit or ()))
    )
    typer.echo(clear)
    typer.echo(f"key {made.id} for '{made.name}': copy it now, it is shown only once", err=True)


@keys.command("list")
def list_keys(config: ConfigOption = None, url: UrlOption = None) -> None:
    """List every key there is or was; the keys themselves are not stored."""
    found = _with_keys(config, url, lambda store: store.list_all())
    if not found:
        typer.echo("no keys yet: bandit-router keys create NAME makes one", err=True)
    for key in found:
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
        scopes = ",".join(sorted(scope.value for scope in key.scopes))
        typer.echo(
            f"{key.id}\t{key.hint}...\t{key.name}\t{key.tenant}\t{scopes}\t"
            f"{key.created_at:%Y-%m-%d %H:%M}\t{state}"
        )


@keys.command()
def revoke(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """End a key: calls that show it are refused from now on."""
    if not _with_keys(config, url, lambda store: store.revoke(key_id)):
        raise InvalidRequest(f"no valid key {key_id}: bandit-router keys list shows them")
    typer.echo(f"key {key_id} is revoked")


def _with_keys(
    config: Path | None, url: str | None, work: Callable[[ApiKeys], Awaitable[Found]]
) -> Found:
    import asyncio

    from bandit_router.store.api_keys import ApiKeys
    from bandit_router.store.engine import make_engine
    from bandit_router.store.migrate import upgrade

    async def on(target: str) -> Found:
        await upgrade(target)
        engine = make_engine(target, pool_size=1, max_overflow=0)
        try:
            return await work(ApiKeys(engine, os.urandom))
        finally:
            await engine.dispose()

    with database(config, url) as target:
        return asyncio.run(on(target))
