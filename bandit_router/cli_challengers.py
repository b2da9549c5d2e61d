"""``bandit-router challengers``: put another policy on trial beside the one that serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bandit_router.cli_remote import (
    HERE,
    JsonOption,
    RouterOption,
    call_router,
    moment,
    print_json,
    print_table,
    tell_done,
)
from bandit_router.errors import DataError

challengers = typer.Typer(
    name="challengers",
    help="Put another policy on trial: shadow, canary, promoted; and back.",
    no_args_is_help=True,
)
PATH = "/admin/challengers"
ReasonOption = Annotated[str, typer.Option(help="For the audit log.")]


@challengers.command("list")
def list_challengers(
    steps: Annotated[int, typer.Option("-n", min=1, max=500, help="Show so many steps.")] = 10,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Who serves, who is on trial and how it does, and the steps so far."""
    found = call_router(url, "GET", PATH, {"limit": steps})
    if as_json:
        print_json(found)
        return
    promoted = found["serving"]["promoted"]
    since = f", promoted {moment(promoted['since'])}" if promoted else ""
    typer.echo(f"serving: {found['serving']['line']}{since}")
    trial = found["trial"]
    if trial is None:
        declared = ", ".join(c["name"] for c in found["declared"])
        typer.echo(f"on trial: nobody; declared: {declared or 'nobody'}")
    else:
        _show_trial(trial)
    print_table(
        ("at", "step", "challenger", "by", "reason"),
        (
            (
                moment(step["at"]),
                step["action"].removeprefix("challengers."),
                step["subject"],
                step["actor"],
                step["detail"].get("error") or step["detail"].get("reason") or "",
            )
            for step in found["steps"]
        ),
    )


def _show_trial(trial: dict[str, Any]) -> None:
    challenger = trial["challenger"]
    share = f", {100 * challenger['share']:g} % of requests" if trial["stage"] == "canary" else ""
    typer.echo(
        f"on trial: {challenger['name']}, in {trial['stage']}{share} since "
        f"{moment(trial['stage_since'])}, as {trial['line']}"
    )
    if trial["held"]:
        typer.echo(f"sent back: {trial['held']}")
    numbers, verdict = trial["numbers"], trial["verdict"]
    if numbers is not None and numbers["rewards"]:
        typer.echo(
            f"challenger − champion: {numbers['difference']:+.3f}, surely between "
            f"{numbers['low']:+.3f} and {numbers['high']:+.3f}; {numbers['rewards']} rewards, "
            f"worth {numbers['effective_sample_size']:.0f} decisions of its own"
        )
    if verdict is not None:
        typer.echo(f"verdict: {verdict['reason']}")


@challengers.command("start")
def start(
    name: Annotated[
        str | None, typer.Argument(help="Of a challenger that the configuration declares.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="One that it does not: its table, as JSON.")
    ] = None,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Ask a challenger about every decision, and follow it in none."""
    if (name is None) == (file is None):
        raise DataError("name a declared challenger, or give one by --file: one of the two")
    if file is None:
        found = call_router(url, "POST", f"{PATH}/start", body={"name": name})
    else:
        try:
            body = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as JSON: {error}") from error
        found = call_router(url, "POST", PATH, body=body)
    tell_done(found, as_json, f"'{found['challenger']['name']}' is in shadow, as {found['line']}")


def _step(path: str, url: str, reason: str) -> Any:
    return call_router(url, "POST", f"{PATH}/{path}", body={"reason": reason})


@challengers.command("canary")
def canary(
    reason: ReasonOption = "", url: RouterOption = HERE, as_json: JsonOption = False
) -> None:
    """Give the challenger its share of requests."""
    found = _step("canary", url, reason)
    share = 100 * found["challenger"]["share"]
    tell_done(
        found, as_json, f"'{found['challenger']['name']}' chooses for {share:g} % of requests"
    )


@challengers.command("shadow")
def shadow(
    reason: ReasonOption = "", url: RouterOption = HERE, as_json: JsonOption = False
) -> None:
    """Take its share away again; it is only asked from now on."""
    found = _step("shadow", url, reason)
    tell_done(found, as_json, f"'{found['challenger']['name']}' is back in shadow")


@challengers.command("promote")
def promote(
    reason: ReasonOption = "", url: RouterOption = HERE, as_json: JsonOption = False
) -> None:
    """Let the challenger serve all requests."""
    found = _step("promote", url, reason)
    said = f"{found['serving']} serves. Undo: bandit-router challengers rollback"
    tell_done(found, as_json, said)


@challengers.command("abort")
def abort(reason: ReasonOption = "", url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """End the trial; who serves goes on serving."""
    found = _step("abort", url, reason)
    tell_done(found, as_json, f"the trial of '{found['aborted']}' has ended")


@challengers.command("rollback")
def rollback(
    reason: ReasonOption = "", url: RouterOption = HERE, as_json: JsonOption = False
) -> None:
    """Undo a promotion: who served before serves again, having learned since."""
    found = _step("rollback", url, reason)
    tell_done(found, as_json, f"{found['serving']} serves again; '{found['gone']}' is gone")
