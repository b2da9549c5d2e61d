"""``bandit-router benchmark``: how fast, how large and how sound the router itself is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations.command_options import JsonOption, numbers
from simulations.json_file import write_json

speed = typer.Typer()


@speed.command()
def dashboard(
    decisions: Annotated[int, typer.Option(min=1000, help="How long the log is.")] = 1_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="How often each door is asked.")] = 30,
    json_path: JsonOption = None,
) -> None:
    """Is the dashboard quick over a long log? Each panel's door, and first paint in Chromium.

    Fills a Postgres of its own with thirty days of routed prompts, brings the sums up to date,
    starts the service on it and asks every door, one after the other. All of it is removed.
    """
    from rich.console import Console

    from simulations.benchmark_report import print_dashboard
    from simulations.example_data import read_examples
    from simulations.progress import stages
    from simulations.protocols.dashboard import run_dashboard

    with stages() as (on_stage, on_step):
        result = run_dashboard(read_examples(), decisions, repeats, on_stage, on_step)
    write_json(json_path, result)
    print_dashboard(result, Console())


@speed.command()
def replay(
    decisions: Annotated[int, typer.Option(min=100, help="How many are replayed.")] = 1_000_000,
    prompts: Annotated[
        int, typer.Option(min=100, help="How many different ones they are drawn from.")
    ] = 100_000,
    feature_count: Annotated[
        int, typer.Option("--features", min=8, help="Per prompt; likenesses come on top.")
    ] = 31,
    budget_usd: Annotated[
        float | None,
        typer.Option("--budget", metavar="USD", min=0.0, help="Mean dollars per request."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """How long does a replay take that learns from every decision? Eight models, one core.

    Beside bare numpy Thompson sampling in the same run.
    """
    from rich.console import Console

    from simulations.benchmark_report import print_replay
    from simulations.protocols.replay_speed import run_replay_speed

    result = run_replay_speed(decisions, prompts, feature_count, budget_usd)
    write_json(json_path, result)
    print_replay(result, Console())


@speed.command()
def updates(
    count: Annotated[int, typer.Option("--updates", min=100, help="Rewards.")] = 1_000_000,
    dimension: Annotated[int, typer.Option(min=2, help="Coordinates.")] = 64,
    rank: Annotated[int, typer.Option(min=2, help="Directions that requests differ in.")] = 8,
    half_life: Annotated[
        float, typer.Option(min=1.0, help="Decisions after which a reward counts half.")
    ] = 5_000.0,
    json_path: JsonOption = None,
) -> None:
    """Does the learner stay sound after a million updates that forget, are revised and retracted?

    Requests leave most directions unseen. Fails when the posterior stops being one.
    """
    from rich.console import Console

    from simulations.benchmark_report import print_updates
    from simulations.protocols.long_run import run_updates

    result = run_updates(count, dimension=dimension, rank=rank, half_life=half_life)
    write_json(json_path, result)
    print_updates(result, Console())


@speed.command()
def gateway(
    requests: Annotated[int, typer.Option(min=1, help="Whole answers per load.")] = 10_000,
    connections: Annotated[
        str, typer.Option(metavar="A,B", help="How many connections at a time.")
    ] = "32,1",
    peers: Annotated[
        str,
        typer.Option(
            metavar="A,B|all", help="Other gateways beside it: litellm, tensorzero, portkey."
        ),
    ] = "",
    peer_folder: Annotated[
        Path | None,
        typer.Option(help="Where peers are, or will be, installed; else for this run alone."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """The router under load, beside a bare pass-through on the same recorded upstream.

    One worker, with learning, exact propensities and logging to Postgres on. Linux only.
    """
    from rich.console import Console

    from simulations.gateway.peers import PEERS
    from simulations.gateway.study import run_gateway
    from simulations.gateway.table import print_gateway
    from simulations.progress import stages

    numbers_of = tuple(int(number) for number in numbers(connections, "--connections") or ())
    if any(number < 1 for number in numbers_of):
        raise typer.BadParameter("give at least one connection", param_hint="--connections")
    named = tuple(PEERS) if peers == "all" else tuple(filter(None, peers.split(",")))
    if unknown := [name for name in named if name not in PEERS]:
        raise typer.BadParameter(
            f"unknown: {', '.join(unknown)}; there are {', '.join(PEERS)}", param_hint="--peers"
        )
    with stages() as (on_stage, on_step):
        result = run_gateway(
            requests, numbers_of, on_stage, on_step, peers=named, peer_folder=peer_folder
        )
    write_json(json_path, result)
    print_gateway(result, Console())


@speed.command()
def soak(
    requests: Annotated[int, typer.Option(min=1, help="How many requests.")] = 20_000,
    connections: Annotated[int, typer.Option(min=1, help="How many at a time.")] = 32,
    faults: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the models' calls that fail.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the faults and the callers.")] = 0,
    json_path: JsonOption = None,
) -> None:
    """Is anything lost, hung or leaked while a tenth of all calls fail? Linux only.

    Exit code 1 when a decision, an outcome or feedback is missing from the log, a request
    hangs, or memory grows.
    """
    from rich.console import Console

    from simulations.faults.command import print_soak
    from simulations.faults.soak import run_soak
    from simulations.progress import stages

    with stages() as (on_stage, on_step):
        result = run_soak(requests, connections, faults, seed, on_stage, on_step)
    write_json(json_path, result)
    print_soak(result, Console())
    if result["problems"]:
        raise typer.Exit(1)
