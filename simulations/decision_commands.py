"""The commands that a change is decided by: what would another policy do, and may it serve?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli_inputs import UrlOption
from simulations.command_options import (
    FeatureSetOption,
    HtmlOption,
    ImagesOption,
    JobsOption,
    JsonOption,
    MetadataOption,
    SnapshotConfigOption,
    listed,
)

decisions = typer.Typer()

EXIT_FAILED_GATE = 1


@decisions.command()
def evaluate(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG", help="Logged traffic: .parquet, .jsonl, .csv, or a Postgres URL."
        ),
    ],
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            help="fixed:MODEL, mix:a=0.7,b=0.3, random, thompson@snapshot-12 or "
            "thompson@state.npz. Several may be given.",
        ),
    ],
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, help="Dollars a request that snapshots are to hold instead."),
    ] = None,
    segment: Annotated[
        str | None, typer.Option(metavar="KEY", help="A metadata key, tenant or policy.")
    ] = None,
    features: Annotated[
        bool, typer.Option(help="Fit reward models on the features; without, less memory.")
    ] = True,
    json_path: JsonOption = None,
    html: HtmlOption = None,
    images: ImagesOption = None,
    config: SnapshotConfigOption = None,
    url: UrlOption = None,
) -> None:
    """What would other policies have earned and cost, by the log? With intervals, or refused.

    Prints a table of quality, dollars and seconds with 95 % intervals. The page of --html adds
    the frontier, hard requests, segments and shares along the log.
    """
    from bandit_router.config_file import load_config
    from simulations.evaluate_command import evaluate_command

    loaded = load_config(config) if config else None
    evaluate_command(
        log,
        targets=target,
        budget_usd=budget,
        segment=segment,
        with_features=features,
        url=url or (loaded.store.url if loaded else None),
        config=loaded,
        json_path=json_path,
        html_path=html,
        images_folder=images,
    )


@decisions.command()
def gate(
    eval_set: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Outcome matrix of the inputs that matter."),
    ],
    policy: Annotated[
        str,
        typer.Option(help="fixed:MODEL, random, thompson@snapshot-12 or thompson@state.npz."),
    ],
    min_quality: Annotated[float | None, typer.Option(help="Least mean quality.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Most mean dollars a request.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Compare prompt by prompt with this one.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0.0, help="Most quality that may be lost against it.")
    ] = 0.0,
    confident: Annotated[
        bool, typer.Option("--confident", help="Hold the 95 % bound to it, not the mean.")
    ] = False,
    feature_set: FeatureSetOption = "hashed",
    metadata: MetadataOption = None,
    json_path: JsonOption = None,
    config: SnapshotConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Fail a build when a policy falls below on an evaluation set.

    Exit code 0 when all that is asked holds, 1 when not, 2 when it cannot be told.
    """
    from simulations.gate_command import gate_command

    passed = gate_command(
        eval_set,
        policy,
        min_quality=min_quality,
        max_cost_usd=max_cost,
        against=against,
        max_loss=max_loss,
        confident=confident,
        feature_set=feature_set,
        metadata=listed(metadata),
        json_path=json_path,
        config_path=config,
        url=url,
    )
    if not passed:
        raise typer.Exit(EXIT_FAILED_GATE)


@decisions.command(name="what-if")
def what_if(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="An outcome matrix, or logged traffic.")
    ],
    price: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=FACTOR", help="gpt-5=0.5 halves it.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="MODEL")] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:quality=Q,cost=C[,like=MODEL,latency=S]"),
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds that an answer may take.")
    ] = None,
    budget: Annotated[float | None, typer.Option(min=0.0, help="Dollars a request now.")] = None,
    new_budget: Annotated[
        float | None, typer.Option(min=0.0, help="Dollars a request then.")
    ] = None,
    policy: Annotated[str, typer.Option(help="The router, replayed in both worlds.")] = "thompson",
    seeds: Annotated[int, typer.Option(min=1, help="Shuffles.")] = 4,
    feature_set: FeatureSetOption = "hashed",
    metadata: MetadataOption = None,
    jobs: JobsOption = None,
    json_path: JsonOption = None,
    html: HtmlOption = None,
    images: ImagesOption = None,
) -> None:
    """What if a price changed, a model went or came, or budget or latency were tighter?

    Draws the frontier before and after. On an outcome matrix the router is replayed in both
    worlds; on logged traffic the frontier is what the log's own models expect.
    """
    from simulations.what_if import Changes, parse_new_model, parse_prices
    from simulations.what_if_command import what_if_command

    changes = Changes(
        price_factors=parse_prices(price or ()),
        removed=tuple(remove or ()),
        added=tuple(parse_new_model(text) for text in add or ()),
        most_latency_s=max_latency,
    )
    what_if_command(
        data,
        changes,
        budget_usd=budget,
        new_budget_usd=new_budget,
        policy=policy,
        seeds=seeds,
        feature_set=feature_set,
        metadata=listed(metadata),
        jobs=jobs,
        json_path=json_path,
        html_path=html,
        images_folder=images,
    )
