"""The command line. Heavy modules are imported inside the commands, so that --help is quick."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bandit_router import __version__
from bandit_router.cli_challengers import challengers
from bandit_router.cli_inputs import ConfigOption, UrlOption, config_path, database
from bandit_router.cli_keys import keys
from bandit_router.cli_remote import remote
from bandit_router.errors import RouterError
from simulations.benchmark_command import benchmark
from simulations.command_options import listed
from simulations.decision_commands import decisions
from simulations.log_commands import data_files
from simulations.study_commands import studies

EXIT_PROBLEM = 2

app = typer.Typer(
    name="bandit-router",
    help="Route each request to the language model that is good enough for it, and learn from "
    "feedback which one that is.\n\nNew here? Run [bold]bandit-router demo[/bold].",
    epilog="Every command explains itself: bandit-router COMMAND --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys)
app.add_typer(remote)
app.add_typer(challengers)
app.add_typer(benchmark)
for commands in (data_files, decisions, studies):
    app.add_typer(commands)


def main() -> None:
    """Entry point of ``bandit-router``; never returns."""
    # One request's arithmetic is too small to share: threads would only wait for each other. To
    # be said before numpy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    0: done. 2: the configuration, the database or the command line was wrong, told in red on
    standard error. 130: interrupted. Errors outside our own tree are bugs, and are raised.
    """
    try:
        app(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_PROBLEM
    except RouterError as error:
        if "--debug" in arguments:
            raise
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        return EXIT_PROBLEM
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bandit-router {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error came from (write it first)."),
    ] = False,
) -> None:
    """Options before the command; both are acted on elsewhere."""


@app.command()
def demo(
    requests: Annotated[
        int | None,
        typer.Option(min=50, help="Replay this many requests instead of all 3,609.", metavar="N"),
    ] = None,
    budget: Annotated[
        float,
        typer.Option(min=0.0, help="Mean dollars per request that the router may spend."),
    ] = 2.3e-4,
    seed: Annotated[int, typer.Option(min=0, help="Shuffles the prompts.")] = 0,
    clients: Annotated[
        int, typer.Option(min=1, max=64, help="Ask this many requests at a time.")
    ] = 8,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here too.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder with its configuration and data.")
    ] = False,
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the service running until Ctrl-C.")
    ] = False,
    silent_loss: Annotated[
        bool,
        typer.Option("--silent-loss", help="Halfway, let one model get worse without an error."),
    ] = False,
) -> None:
    """Watch the router learn, on recorded prompts: no keys, no network, under two minutes.

    Starts the whole service on a Postgres of its own, sends real prompts to models that answer
    from a recording, posts the recorded judgements as feedback, and shows how quality and spend
    move beside always-cheapest, always-best and random.
    """
    from simulations.demo import DemoOptions, run_demo

    run_demo(
        DemoOptions(
            requests=requests,
            budget_usd_per_request=budget,
            seed=seed,
            clients=clients,
            json_path=json_path,
            keep=keep,
            keep_serving=keep_serving,
            silent_loss=silent_loss,
        )
    )


@app.command()
def faults(
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here too.")
    ] = None,
) -> None:
    """Show what the router does when models fail: every way of failing, over real sockets.

    Starts misbehaving servers and a router on loopback, runs each failure whole and streamed,
    first, last and alone in the chain, and prints how it ended. Exit code 1 where that is not
    as stated.
    """
    from rich.console import Console

    from simulations.faults.command import faults_command

    if not faults_command(json_path, Console()):
        raise typer.Exit(1)


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(help="Listen on this address instead of the file's.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Listen on this port instead of the file's."),
    ] = None,
) -> None:
    """Start the router: an OpenAI-compatible server that chooses the model for model="auto"."""
    from bandit_router.check import warnings_of
    from bandit_router.config_file import load_config
    from service.run import serve as serve_until_stopped

    path = config_path(config)
    loaded = load_config(path)
    changes = {"host": host, "port": port}
    server = loaded.server.model_copy(update={k: v for k, v in changes.items() if v is not None})
    for warning in warnings_of(loaded, os.environ):
        _warn(warning)
    serve_until_stopped(loaded.model_copy(update={"server": server}), path)


@app.command()
def check(
    config: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="By default ./router.toml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a report for machines.")] = False,
) -> None:
    """Validate a configuration file without starting anything.

    Exit code 0 when the router would start with it; warnings (a key that is not set, say) do
    not change that. Exit code 2 otherwise, with file, line and remedy of every problem.
    """
    from bandit_router.check import check_config

    report = check_config(config or Path("router.toml"), os.environ)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        for problem in report.problems:
            typer.secho(f"error: {problem}", fg=typer.colors.RED, err=True)
        for warning in report.warnings:
            _warn(warning)
        if report.config is not None and report.ok:
            names = ", ".join(model.name for model in report.config.models)
            typer.secho(
                f"{report.file} is valid: {len(report.config.models)} models ({names}), "
                f"policy {report.config.policy.name}, "
                f"feedback on {', '.join(sorted(report.config.rewards))}",
                fg=typer.colors.GREEN,
            )
    if not report.ok:
        raise typer.Exit(EXIT_PROBLEM)


@app.command()
def migrate(
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Bring the database to this version's schema; serve does so by itself too."""
    import asyncio

    from bandit_router.store.migrate import current, newest_revision, upgrade

    async def bring_up(target: str) -> tuple[str | None, str | None]:
        before = await current(target)
        await upgrade(target)
        return before, await current(target)

    with database(config, url) as target:
        before, after = asyncio.run(bring_up(target))
    if before == after == newest_revision():
        typer.echo(f"the schema is at revision {after} already: nothing to do")
    else:
        typer.echo(f"the schema went from {before or 'nothing'} to revision {after}")


@app.command()
def simulate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Outcome matrix, .parquet or .jsonl: one row per prompt and model, with the "
            "columns prompt_id, prompt, model, quality, cost_usd and split.",
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="thompson, linucb, epsilon_greedy, knn, classifier, latency, heuristic, "
            "capability, session_budget, user_tier, random, fixed:MODEL or cascade."
        ),
    ] = "thompson",
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, help="Mean dollars per request to hold; without it, no budget."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Repeat over this many shuffles, for the interval.")
    ] = 20,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here too.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Only these models, in this order.")
    ] = None,
    warmup_split: Annotated[
        str | None, typer.Option(help="Learn on this split first, unscored: val, say.")
    ] = None,
    score_split: Annotated[
        str | None, typer.Option(help="Score on this split: test, say. By default on all.")
    ] = None,
    feature_set: Annotated[
        str, typer.Option(help="What is known of a prompt: none, hashed or minilm.")
    ] = "hashed",
    metadata: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns that become features: category, say."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page that holds all it shows."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Write the plots as PNG and SVG."),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Start from what `fit-prior` wrote, not cold."),
    ] = None,
) -> None:
    """Replay recorded outcomes of several models: what would a policy have earned, and spent?

    Prints mean reward with a 95 % interval over seeds, spend, shares and regret, beside the
    best single model, the best static mix at the same spend, random and the oracle.
    """
    from simulations.command import simulate_command

    simulate_command(
        data,
        policy=policy,
        budget_usd=budget,
        seeds=seeds,
        json_path=json_path,
        models=listed(models) or None,
        warmup_split=warmup_split,
        score_split=score_split,
        feature_set=feature_set,
        metadata=listed(metadata),
        jobs=jobs,
        html_path=html,
        images_folder=images,
        prior_path=prior,
    )


def _warn(message: str) -> None:
    typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)
