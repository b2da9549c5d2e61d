"""``bandit-router benchmark``: published protocols on this router, with the published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from simulations.command_options import FeatureSetOption, JsonOption, PolicyOption, listed, numbers
from simulations.json_file import write_json
from simulations.speed_commands import speed

benchmark = typer.Typer(
    name="benchmark",
    help="Run published evaluation protocols, beside the published figures.",
    no_args_is_help=True,
)
benchmark.add_typer(speed)

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
        typer.Option(
            min=1.0, help="Decisions after which an observation counts half; by default, learned."
        ),
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
    matrix = read_matrix(data, listed(models) or None)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = pair_study(
            matrix, policy=policy, text=feature_set, metadata=listed(metadata), on_prompt=on_step
        )
        on_stage("replaying passes", seeds * len(targets))
        result = run_routellm(study, targets, seeds, jobs, on_step)
    result["metadata"] = list(listed(metadata))
    write_json(json_path, result)
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

    matrix = read_matrix(data, listed(models) or None)
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
                names=listed(only) or NAMES,
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
    write_json(json_path, result)
    print_suite(result, Console())


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
    write_json(json_path, result)
    print_ope(result, Console())
