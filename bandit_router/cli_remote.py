"""The operators' commands: they speak to a running router over HTTP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from bandit_router.errors import RemoteError

KEY_VARIABLE = "BANDIT_ROUTER_API_KEY"
TIMEOUT_S = 30.0
TAIL_EVERY_S = 1.0

RouterOption = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="BANDIT_ROUTER_URL",
        metavar="URL",
        help=f"Where the router listens. A key for it is read from {KEY_VARIABLE}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer for machines.")]
HERE = "http://127.0.0.1:8800"

remote = typer.Typer()
policies = typer.Typer(name="policies", help="What was learned.", no_args_is_help=True)
decisions = typer.Typer(name="decisions", help="What was decided.", no_args_is_help=True)
models = typer.Typer(name="models", help="See, add, pause and retire models.", no_args_is_help=True)
snapshots = typer.Typer(name="snapshots", help="Stored beliefs.", no_args_is_help=True)
for part in (policies, decisions, models, snapshots):
    remote.add_typer(part)


@policies.command("show")
def show_policy(
    name: Annotated[str | None, typer.Argument(help="By default the one that serves.")] = None,
    coefficients: Annotated[
        int, typer.Option(min=0, help="Show so many of each model's largest weights.")
    ] = 0,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """What a policy believes of every model."""
    if name is None:
        listed = call_router(url, "GET", "/admin/policies")["policies"]
        name = next(policy["name"] for policy in listed if policy["serving"])
    found = call_router(url, "GET", f"/admin/policies/{name}")
    if as_json:
        print_json(found)
        return
    budget = found["budget"]
    held = budget["usd_per_request"]
    typer.echo(
        f"policy {name}, snapshot {found['snapshot_version']}; "
        + (f"budget ${held:.4g} a request, " if held is not None else "no budget, ")
        + f"a dollar is worth {budget['price_of_dollar']:.4g} of quality"
    )
    print_table(
        ("model", "quality", "95 % interval", "rewards", "share", "cost $", "latency s"),
        (
            (
                m["model"],
                _number(m["quality"]),
                f"{_number(m['quality_low'])} to {_number(m['quality_high'])}",
                f"{m['effective_sample_size']:.0f}",
                f"{100 * m['share']:.0f} %",
                f"{m['cost_usd']:.3g}",
                f"{m['latency_s']:.2f}",
            )
            for m in found["models"]
        ),
    )
    for m in found["models"] if coefficients else ():
        largest = sorted(m["coefficients"], key=lambda c: -abs(c["mean"]))[:coefficients]
        print_table(
            (m["model"], "weight", "95 % interval"),
            (
                (c["feature"], f"{c['mean']:+.4f}", f"{c['low']:+.4f} to {c['high']:+.4f}")
                for c in largest
            ),
        )


@decisions.command("tail")
def tail(
    limit: Annotated[int, typer.Option("-n", min=1, max=500, help="Begin with so many.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    model: Annotated[str | None, typer.Option(help="Only decisions for this one.")] = None,
    mode: Annotated[str | None, typer.Option(help="policy, override, sticky or rule.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    status: Annotated[str | None, typer.Option(help="Of the outcome: ok, timeout …")] = None,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """The newest decisions, newest last; with --json one object a line."""
    asked = {"model": model, "mode": mode, "tenant": tenant, "status": status, "limit": limit}
    query = {key: value for key, value in asked.items() if value is not None}
    seen: set[str] = set()
    while True:
        page = call_router(url, "GET", "/admin/decisions", query)["decisions"]
        fresh = [line for line in reversed(page) if line["decision_id"] not in seen]
        seen = {line["decision_id"] for line in page}
        if as_json:
            for line in fresh:
                typer.echo(json.dumps(line))
        elif fresh or not follow:
            print_table(
                ("time", "decision", "model", "p", "status", "cost $", "reward", "tenant"),
                (_decision_row(line) for line in fresh),
            )
        if not follow:
            return
        time.sleep(TAIL_EVERY_S)


@remote.command()
def explain(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="x-router-decision-id.")],
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Why this model was chosen for a request."""
    found = call_router(url, "GET", f"/admin/decisions/{decision_id}")
    if as_json:
        print_json(found)
        return
    why = found["why"]
    typer.echo(why["sentence"] + ".")
    print_table(
        ("model", "p", "quality", "cost $", "latency s", "utility", "what moved it"),
        (
            (
                ("* " if c["chosen"] else "  ") + c["model"],
                c["masked"] or f"{c['pmf']:.3f}",
                f"{_number(c['quality'])} ± {_number(c['quality_sd'])}",
                f"{c['cost_usd']:.3g}",
                f"{c['latency_s']:.2f}",
                f"{c['utility']:+.3f}",
                ", ".join(
                    f"{part['feature']} {part['contribution']:+.3f}"
                    for part in c["contributions"][:3]
                ),
            )
            for c in why["candidates"]
        ),
    )
    outcome = found["outcome"]
    if outcome is None:
        typer.echo("outcome unknown")
    else:
        answered = outcome["answered_by"] or "nobody"
        typer.echo(
            f"{outcome['status']}: {answered} answered after {outcome['attempts']} attempts and "
            f"{outcome['latency_s']:.2f} s for ${outcome['cost_usd'] or 0.0:.3g}; "
            f"reward {_number(found['reward'])}"
        )
    check = found["pmf_check"]
    said = "equals the logged one" if check["equal"] else check["reason"] or "DIFFERS"
    typer.echo(f"pmf computed again: {said}")


@models.command("list")
def list_models(url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """Every model and how it fares."""
    found = call_router(url, "GET", "/admin/models")
    if as_json:
        print_json(found)
        return
    print_table(
        ("model", "state", "breaker", "reliability", "$ / M in", "$ / M out", "context"),
        (
            (
                m["name"],
                "paused" if m["paused"] else "last resort" if m["last_resort"] else "active",
                m["breaker"]["state"] + (f": {r}" if (r := m["breaker"]["reason"]) else ""),
                f"{100 * m['reliability']:.1f} %",
                f"{m['input_usd_per_million']:g}",
                f"{m['output_usd_per_million']:g}",
                f"{m['context_window_tokens']}",
            )
            for m in found["models"]
        ),
    )


@models.command("add")
def add_model(
    name: str,
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible server, with /v1.")],
    upstream_model: Annotated[str | None, typer.Option(help="Its name there.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The variable with its key.")] = None,
    input_usd_per_million: Annotated[float, typer.Option(min=0.0)] = 0.0,
    output_usd_per_million: Annotated[float, typer.Option(min=0.0)] = 0.0,
    context_window_tokens: Annotated[int, typer.Option(min=1)] = 128_000,
    successor_of: Annotated[
        str | None, typer.Option(help="The model that this is a new version of.")
    ] = None,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Add a model to the running router; what is known of the others stays."""
    body = {
        "name": name,
        "base_url": base_url,
        "upstream_model": upstream_model,
        "api_key_env": api_key_env,
        "input_usd_per_million": input_usd_per_million,
        "output_usd_per_million": output_usd_per_million,
        "context_window_tokens": context_window_tokens,
        "successor_of": successor_of,
    }
    sent = {key: value for key, value in body.items() if value is not None}
    tell_done(call_router(url, "POST", "/admin/models", body=sent), as_json, f"'{name}' is added")


@models.command("pause")
def pause_model(name: str, url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """Choose a model no more; callers may still name it."""
    tell_done(
        call_router(url, "POST", f"/admin/models/{name}/pause"), as_json, f"'{name}' is paused"
    )


@models.command("resume")
def resume_model(name: str, url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """Let a paused model be chosen again."""
    tell_done(
        call_router(url, "POST", f"/admin/models/{name}/resume"), as_json, f"'{name}' is active"
    )


@models.command("retire")
def retire_model(name: str, url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """Take a model out; requests under way finish on it."""
    tell_done(
        call_router(url, "POST", f"/admin/models/{name}/retire"), as_json, f"'{name}' is retired"
    )


@snapshots.command("list")
def list_snapshots(
    limit: Annotated[int, typer.Option("-n", min=1, max=10_000)] = 20,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Stored beliefs, newest first."""
    found = call_router(url, "GET", "/admin/snapshots", {"limit": limit})
    if as_json:
        print_json(found)
        return
    print_table(
        ("policy", "version", "made", "reason", "kB"),
        (
            (
                s["policy"],
                f"{s['version']}",
                moment(s["created_at"]),
                s["reason"],
                f"{s['payload_bytes'] / 1000:.0f}",
            )
            for s in found["snapshots"]
        ),
    )


@snapshots.command("diff")
def diff_snapshots(
    before: int, after: int, url: RouterOption = HERE, as_json: JsonOption = False
) -> None:
    """What changed in the beliefs from one version to another."""
    found = call_router(url, "GET", "/admin/snapshots/diff", {"before": before, "after": after})
    if as_json:
        print_json(found)
        return

    def changed(change: dict[str, Any], digits: int = 3) -> str:
        return f"{change['before']:.{digits}g} → {change['after']:.{digits}g}"

    typer.echo(f"rewards {changed(found['rewards'], 6)}, λ {changed(found['price_of_dollar'])}")
    print_table(
        ("model", "quality", "sd", "rewards", "cost $", "what moved most"),
        (
            (
                m["model"],
                changed(m["quality"]),
                changed(m["quality_sd"], 2),
                changed(m["effective_sample_size"], 4),
                changed(m["cost_usd"], 2),
                ", ".join(
                    f"{c['feature']} {c['after'] - c['before']:+.3f}" for c in m["coefficients"][:3]
                ),
            )
            for m in found["models"]
        ),
    )


@snapshots.command("rollback")
def roll_back(
    version: int,
    reason: Annotated[str, typer.Option(help="For the audit log.")] = "",
    keep_evidence: Annotated[
        bool, typer.Option(help="Learn anew from what came since, instead of leaving it out.")
    ] = False,
    url: RouterOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Believe again what an earlier version believed."""
    body = {"version": version, "reason": reason, "keep_evidence": keep_evidence}
    found = call_router(url, "POST", "/admin/snapshots/rollback", body=body)
    tell_done(
        found,
        as_json,
        f"snapshot {version} serves again, as {found['version']}; {found['excluded_decisions']} "
        f"decisions since then teach nothing. Undo: bandit-router snapshots rollback "
        f"{found['was']} --keep-evidence",
    )


@remote.command()
def reload(url: RouterOption = HERE, as_json: JsonOption = False) -> None:
    """Have the running router read its file again."""
    found = call_router(url, "POST", "/admin/reload")
    tell_done(found, as_json, f"changed: {', '.join(found['changed']) or 'nothing'}")


def call_router(
    url: str, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None
) -> Any:
    """The answer of one door. Raises RemoteError with what the router said."""
    import httpx

    key = os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.request(
            method,
            url.rstrip("/") + path,
            params=query,
            json=body,
            headers=headers,
            timeout=TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RemoteError(
            f"no router answers at {url} ({error}): start one with `bandit-router serve`, or name "
            "another with --url"
        ) from error
    try:
        found = answer.json()
    except ValueError as error:
        raise RemoteError(
            f"{url} answered {answer.status_code} without JSON: is it a router?"
        ) from error
    if answer.is_error:
        said = found.get("error", {}).get("message", "") if isinstance(found, dict) else ""
        hint = (
            f"; put a key with the scope admin into {KEY_VARIABLE}"
            if answer.status_code == 401
            else ""
        )
        raise RemoteError(f"{said or 'refused'} (HTTP {answer.status_code}){hint}")
    return found


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(escape(column), overflow="fold", no_wrap=index == 0)
    for row in rows:
        # Names come from outside: they are text, never markup.
        table.add_row(*(escape(cell) for cell in row))
    Console(width=None if os.isatty(1) else 200).print(table)


def _decision_row(line: dict[str, Any]) -> tuple[str, ...]:
    cost_usd = line["cost_usd"]
    return (
        moment(line["created_at"]),
        line["decision_id"],
        line["answered_by"] or line["model"],
        f"{line['propensity']:.2f}",
        line["status"] or "unknown",
        "" if cost_usd is None else f"{cost_usd:.3g}",
        _number(line["reward"]),
        line["tenant"],
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def moment(text: str) -> str:
    return text[:19].replace("T", " ")


def tell_done(found: Any, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(sentence)


def print_json(found: Any) -> None:
    typer.echo(json.dumps(found, indent=2))
