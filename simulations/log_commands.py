"""The commands that logs and other data come and go by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli_inputs import ConfigOption, UrlOption, database
from bandit_router.errors import DataError
from simulations.command_options import (
    OutOption,
)

data_files = typer.Typer()


@data_files.command()
def export(
    out: OutOption,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="2026-03-01, or 7d for seven days ago.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this time; by default now.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Write the log as a file: one row per decision, with its whole pmf and what came of it.

    Decisions, outcomes and rewards are read a page at a time, so that a log larger than memory
    works. The columns are described in docs/log-schema.md.
    """
    import asyncio

    from simulations.logs.export import export_pages, join_pieces, moment, pieces_folder
    from simulations.logs.files import SUFFIXES
    from simulations.progress import stages

    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"{out}: write to a name that ends in {', '.join(SUFFIXES)}")
    now = datetime.now(UTC)
    with database(config, url) as target, pieces_folder() as folder, stages() as (begin, advance):
        written = asyncio.run(
            export_pages(
                target,
                folder,
                since=moment(since, now) if since else None,
                until=moment(until, now) if until else None,
                tenant=tenant,
                on_total=lambda total: begin("reading decisions", total),
                on_rows=advance,
            )
        )
        join_pieces(folder, out)
    typer.echo(f"{written:,} decisions written to {out}")


@data_files.command(name="import")
def import_log(
    source: Annotated[str, typer.Argument(metavar="litellm|otel", help="Whose log it is.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="LiteLLM's spend logs (.parquet, .jsonl, .csv), or OTLP spans as JSON.",
        ),
    ],
    out: OutOption,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Columns request_id (or decision_id) and reward."),
    ] = None,
    estimate_propensities: Annotated[
        bool,
        typer.Option(
            "--estimate-propensities",
            help="Take each model's share of its group for its probability: right only where "
            "models were drawn at random.",
        ),
    ] = False,
) -> None:
    """Turn another gateway's log into logged traffic, and say what was left out and assumed."""
    from simulations.logs.files import scan, write_traffic
    from simulations.logs.litellm import from_litellm
    from simulations.logs.otel import from_otel

    known = scan(scores).collect() if scores else None
    if source == "litellm":
        made = from_litellm(scan(file), estimate_propensities=estimate_propensities, scores=known)
    elif source == "otel":
        made = from_otel(file, estimate_propensities=estimate_propensities, scores=known)
    else:
        raise DataError(f"no loader '{source}'; there are litellm and otel")
    write_traffic(made.log, out)
    typer.echo(f"{made.log.height:,} of {made.read:,} calls written to {out}")
    for reason, count in made.left_out.items():
        typer.echo(f"left out: {count:,} {reason}")
    for note in made.notes:
        typer.echo(f"note: {note}")
    if made.log["reward"].null_count() == made.log.height:
        typer.echo("note: no call has a reward; cost and latency can be estimated, quality cannot")


@data_files.command()
def world(
    name: Annotated[str, typer.Argument(metavar="NAME", help="office, documentation or eight.")],
    out: OutOption,
    requests: Annotated[int, typer.Option(min=1)] = 5000,
    traffic: Annotated[
        bool,
        typer.Option("--traffic", help="Log traffic routed by --policy instead of the matrix."),
    ] = False,
    policy: Annotated[str, typer.Option(help="Who routes the traffic.")] = "thompson",
    budget: Annotated[float | None, typer.Option(min=0.0, help="Dollars a request.")] = None,
    feedback_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the traffic that gets any.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make data with a known truth: every model's outcomes, or the log of a router at work."""
    import numpy as np

    from simulations.logs.files import write_traffic
    from simulations.matrix import frame_of
    from simulations.world import named_world, simulate_traffic

    rng = np.random.default_rng(seed)
    made = named_world(name)
    if traffic:
        log = simulate_traffic(
            made, requests, rng, policy=policy, budget_usd=budget, feedback_rate=feedback_rate
        ).log
        write_traffic(log, out)
    else:
        write_traffic(frame_of(made.matrix(made.contexts(requests, rng, texts=True), rng)), out)
    typer.echo(f"{requests:,} {'decisions' if traffic else 'prompts'} of '{name}' written to {out}")
