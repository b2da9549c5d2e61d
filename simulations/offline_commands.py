"""The commands of the data scientist's door: logs in and out, and what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bandit_router.cli_inputs import ConfigOption, UrlOption, database
from bandit_router.errors import DataError

offline = typer.Typer()

EXIT_FAILED_GATE = 1
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result here too.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page that holds all it shows."),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER", help="Write the plots as PNG and SVG."),
]
FeatureSetOption = Annotated[
    str, typer.Option(help="What is known of a prompt: none, hashed or minilm.")
]
MetadataOption = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns that become features: category, say.")
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]
OutOption = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="FILE", help="Ends in .parquet, .jsonl or .csv."),
]


@offline.command()
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


@offline.command(name="import")
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


@offline.command()
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


@offline.command()
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
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Prices of snapshots.")
    ] = None,
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


@offline.command()
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
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Prices and features of snapshots."),
    ] = None,
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
        metadata=_listed(metadata),
        json_path=json_path,
        config_path=config,
        url=url,
    )
    if not passed:
        raise typer.Exit(EXIT_FAILED_GATE)


@offline.command(name="fit-prior")
def fit_prior(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="An outcome matrix.")],
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
    """Make a prior for `[policy] prior` and `simulate --prior` from recorded outcomes.

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
        models=_listed(models),
        feature_set=feature_set,
        metadata=_listed(metadata),
        config_path=config,
    )


@offline.command(name="what-if")
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
        metadata=_listed(metadata),
        jobs=jobs,
        json_path=json_path,
        html_path=html,
        images_folder=images,
    )


@offline.command()
def sweep(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="An outcome matrix.")],
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
        metadata=_listed(metadata),
        jobs=jobs,
        cluster=cluster,
    )


@offline.command()
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
    import json
    from dataclasses import asdict

    from simulations.chatbot import RULES_USD, run_chatbot, sentences

    result = run_chatbot(
        requests, seed=seed, feedback_rate=feedback_rate, budget_usd=budget or RULES_USD
    )
    for sentence in sentences(result):
        typer.echo(sentence)
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(result), indent=2) + "\n")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
