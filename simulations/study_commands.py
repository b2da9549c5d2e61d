"""The commands that replay or fit over recorded outcomes, many times or once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations.command_options import (
    DataArgument,
    FeatureSetOption,
    JobsOption,
    JsonOption,
    MetadataOption,
    listed,
)
from simulations.json_file import write_json

studies = typer.Typer()


@studies.command()
def sweep(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Results, JSON lines; resumed if there."),
    ],
    policy: Annotated[
        list[str] | None, typer.Option(help="Several may be given; by default thompson.")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="Dollars a request, or none. Several may be given."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Shuffles of each.")] = 20,
    warmup_split: Annotated[str | None, typer.Option(help="Learn on this split first.")] = None,
    score_split: Annotated[str | None, typer.Option(help="Score on this split.")] = None,
    feature_set: FeatureSetOption = "hashed",
    metadata: MetadataOption = None,
    jobs: JobsOption = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, tcp://host:8786, instead."),
    ] = None,
) -> None:
    """Replay every policy under every budget and seed, and go on where it was broken off."""
    from simulations.sweep_command import sweep_command

    sweep_command(
        data,
        out,
        policies=policy or (),
        budgets=budget or (),
        seeds=seeds,
        warmup_split=warmup_split,
        score_split=score_split,
        feature_set=feature_set,
        metadata=listed(metadata),
        jobs=jobs,
        cluster=cluster,
    )


@studies.command(name="fit-prior")
def fit_prior(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="prior.json, say.")],
    split: Annotated[str | None, typer.Option(help="Use this split's prompts only.")] = None,
    calibration_split: Annotated[
        str | None,
        typer.Option(help="Hold this split out, instead of the last quarter of the prompts."),
    ] = None,
    effective_rows: Annotated[
        float | None,
        typer.Option(min=0.0, help="What it counts for, instead of what held-out prompts say."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Only these models, in this order.")
    ] = None,
    feature_set: FeatureSetOption = "hashed",
    metadata: MetadataOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Features of this router instead."),
    ] = None,
) -> None:
    """Make a prior for `policy.prior` and `simulate --prior` from recorded outcomes.

    How many rows of feedback it counts for is chosen by how well it predicts held-out outcomes.
    Prompts are in the file as features only.
    """
    from simulations.fit_prior_command import fit_prior_command

    fit_prior_command(
        data,
        out,
        split=split,
        calibration_split=calibration_split,
        effective_rows=effective_rows,
        models=listed(models),
        feature_set=feature_set,
        metadata=listed(metadata),
        config_path=config,
    )


@studies.command()
def chatbot(
    requests: Annotated[int, typer.Option(min=1000, help="Questions in the month.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    feedback_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of answers that get a thumb.")
    ] = 1.0,
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, help="Dollars a request; by default what perfect rules cost."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """A documentation chatbot's month, in a synthetic world: what does learning save?

    70 % simple questions at $0.0003 and 30 % hard ones at $0.003, against all at $0.003. The
    router is told nothing of which is which.
    """
    from dataclasses import asdict

    from simulations.chatbot import RULES_USD, run_chatbot, sentences

    result = run_chatbot(
        requests, seed=seed, feedback_rate=feedback_rate, budget_usd=budget or RULES_USD
    )
    for sentence in sentences(result):
        typer.echo(sentence)
    write_json(json_path, asdict(result))
