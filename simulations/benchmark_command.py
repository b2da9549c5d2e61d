"""``bandit-router benchmark``: published protocols on this router, with the published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from simulations.command_options import FeatureSetOption, JsonOption, PolicyOption

benchmark = typer.Typer(
    name="benchmark",
    help="Run published evaluation protocols, beside the published figures.",
    no_args_is_help=True,
)

JobsOption = Annotated[int, typer.Option(min=1, help="Processes.")]


@benchmark.command()
def paretobandit(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Outcome matrix; by default the prompts in the installed package paretobandit, "
            "which lack the fourth model that onboarding needs.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over this many shuffles.")] = 20,
    json_path: JsonOption = None,
    budgets: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Dollars per request; by default the seven published."),
    ] = None,
    jobs: JobsOption = 1,
    peer: Annotated[
        bool, typer.Option(help="Run the package paretobandit itself beside it.")
    ] = True,
    scenarios: Annotated[
        bool, typer.Option(help="Run failure, price drift and onboarding as well.")
    ] = True,
    policy: PolicyOption = "thompson",
    feature_set: FeatureSetOption = "hashed",
    half_life: Annotated[
        float | None,
        typer.Option(min=1.0, help="Decisions after which an observation counts half."),
    ] = None,
) -> None:
    """ParetoBandit's protocol: cold start, seven budgets, and a world that changes.

    Prints reward and spend beside the best static mix at the same spend, the published figures
    and a fresh run of the package itself.
    """
    from rich.console import Console

    from simulations.benchmark_report import print_budgets, print_scenarios
    from simulations.example_data import read_examples
    from simulations.matrix import read_matrix
    from simulations.progress import stages
    from simulations.protocols import paretobandit as protocol
    from simulations.protocols.paretobandit_peer import PeerResult, run_peer

    matrix = read_examples() if data is None else read_matrix(data)
    budgets_usd = numbers(budgets, "--budgets") or protocol.BUDGETS_USD
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = protocol.protocol_study(
            matrix,
            policy=policy,
            text=feature_set,
            half_life_decisions=half_life,
            on_prompt=on_step,
        )
        peers = PeerResult(note="not run: --no-peer")
        if peer:
            three = protocol.of_models(study, protocol.MODELS)
            peers = run_peer(three, budgets_usd, seeds, on_stage, on_step)
        plan = protocol.Plan(seeds=seeds, jobs=jobs, on_stage=on_stage, on_seed=on_step)
        rows = protocol.run_budgets(study, budgets_usd, plan, peers)
        reports = (
            protocol.run_scenarios(study, protocol.SCENARIO_BUDGETS_USD, plan) if scenarios else {}
        )
    if json_path is not None:
        result = {
            "policy": policy,
            "feature_set": feature_set,
            "half_life_decisions": half_life,
            "seeds": seeds,
            "rows": rows,
            "scenarios": reports,
            "peer_note": peers.note,
        }
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_budgets(rows, peers.note, Console())
    print_scenarios(reports, Console())


@benchmark.command()
def routellm(
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="Outcome matrix of two models: RouteLLM's pair.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over this many shuffles.")] = 3,
    json_path: JsonOption = None,
    shares: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Shares of strong calls to hold; by default .1 to .9."),
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns that become features: category.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these two models.")
    ] = None,
    jobs: JobsOption = 1,
    policy: PolicyOption = "thompson",
    feature_set: FeatureSetOption = "hashed",
) -> None:
    """RouteLLM's measures, APGR and CPT, learning online from bandit feedback in one pass.

    Every pass holds one share of strong calls and is scored on its second half. APGR is 0.5 for
    a random mix.
    """
    from rich.console import Console

    from bandit_router.errors import DataError
    from simulations.benchmark_report import print_routellm
    from simulations.matrix import read_matrix
    from simulations.progress import stages
    from simulations.protocols.routellm import SHARES, pair_study, run_routellm

    targets = numbers(shares, "--shares") or SHARES
    if not all(0.0 < share < 1.0 for share in targets):
        raise DataError(f"--shares {shares}: a share lies between 0 and 1")
    matrix = read_matrix(data, names(models) or None)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = pair_study(
            matrix, policy=policy, text=feature_set, metadata=names(metadata), on_prompt=on_step
        )
        on_stage("replaying passes", seeds * len(targets))
        result = run_routellm(study, targets, seeds, jobs, on_step)
    result["metadata"] = list(names(metadata))
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_routellm(result, Console())


@benchmark.command()
def scenarios(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Outcome matrix of any models.")],
    budget_usd: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="USD",
            min=0.0,
            help="Mean dollars per request; by default between the cheapest and the best model.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these scenarios; by default all.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=100, help="Requests of each feedback scenario, prompts repeated.")
    ] = 20_000,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat over this many shuffles.")] = 3,
    json_path: JsonOption = None,
    models: Annotated[str | None, typer.Option(metavar="A,B", help="Only these models.")] = None,
    jobs: JobsOption = 1,
    policy: PolicyOption = "thompson",
    feature_set: FeatureSetOption = "hashed",
) -> None:
    """Worlds that change, and feedback that is late, rare, coarse, one-sided or false.

    Runs on any matrix, beside the best static mix of fixed models at the same spend.
    """
    from dataclasses import replace

    from rich.console import Console

    from simulations.benchmark_report import print_suite
    from simulations.matrix import read_matrix
    from simulations.progress import stages
    from simulations.scenarios.suite import NAMES, SuitePlan, run_suite, usual_budget
    from simulations.simulate import make_study

    matrix = read_matrix(data, names(models) or None)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = make_study(
            matrix,
            policy=policy,
            budget_usd=budget_usd,
            warmup_split=None,
            score_split=None,
            text=feature_set,
            metadata=(),
            on_prompt=on_step,
        )
        if budget_usd is None:
            problem = replace(study.problem, budget_usd=usual_budget(study))
            study = replace(study, problem=problem)
        reports = run_suite(
            study,
            SuitePlan(
                names=names(only) or NAMES,
                requests=requests,
                seeds=seeds,
                jobs=jobs,
                on_stage=on_stage,
                on_seed=on_step,
            ),
        )
    result = {
        "policy": policy,
        "feature_set": feature_set,
        "models": list(study.problem.arms),
        "budget_usd": study.problem.budget_usd,
        "seeds": seeds,
        "scenarios": reports,
    }
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_suite(result, Console())


def names(text: str | None) -> tuple[str, ...]:
    """The parts of a comma list."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def numbers(text: str | None, option: str) -> tuple[float, ...]:
    """The positive numbers of a comma list. Raises DataError naming the option."""
    from bandit_router.errors import DataError

    try:
        found = tuple(float(part) for part in names(text))
    except ValueError as error:
        raise DataError(f"{option} {text}: give numbers, 1e-4,2e-4 say ({error})") from error
    if any(not 0.0 < number < float("inf") for number in found):
        raise DataError(f"{option} {text}: every number must be positive")
    return found


@benchmark.command()
def ope(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Outcome matrix of any models.")],
    logs: Annotated[int, typer.Option(min=1, help="Logs of thompson on recorded prompts.")] = 100,
    synthetic: Annotated[int, typer.Option(min=0, help="Synthetic logs of a learner.")] = 200,
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds of the log that is timed; 0 leaves that out.")
    ] = 1_000_000,
    resamples: Annotated[int, typer.Option(min=20, help="Of the bootstrap.")] = 400,
    json_path: JsonOption = None,
    jobs: JobsOption = 1,
) -> None:
    """Do off-policy estimates hold? Coverage and error where the truth is known, and speed.

    thompson routes the first half of the prompts: with a floor of exploration that makes the log
    worth evaluating, with the defaults, where more must be refused, and without any exploration.
    """
    from rich.console import Console

    from bandit_router.config import ExplorationConfig
    from simulations.benchmark_report import print_ope
    from simulations.matrix import read_matrix
    from simulations.progress import stages
    from simulations.protocols import ope as protocol
    from simulations.protocols.ope_speed import run_speed

    matrix = read_matrix(data)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        half = protocol.half_of(matrix, on_step)
        result: dict[str, object] = {}
        for name, exploration, count in (
            ("explored", protocol.EVALUABLE, logs),
            ("default", ExplorationConfig(), -(-logs // 10)),
            ("unexplored", ExplorationConfig(enabled=False), -(-logs // 10)),
        ):
            on_stage(f"logs of thompson, {name}", count)
            result[name] = protocol.run_recorded(half, exploration, count, resamples, jobs, on_step)
        if synthetic:
            on_stage("synthetic logs", synthetic)
            result["synthetic"] = protocol.run_synthetic(synthetic, resamples, jobs, on_step)
        if rounds:
            on_stage("timing", 1)
            result["speed"] = run_speed(rounds)
            on_step()
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_ope(result, Console())


@benchmark.command()
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
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_dashboard(result, Console())


@benchmark.command()
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
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_replay(result, Console())


@benchmark.command()
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
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_updates(result, Console())


@benchmark.command()
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
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_gateway(result, Console())


@benchmark.command()
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
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    print_soak(result, Console())
    if result["problems"]:
        raise typer.Exit(1)
