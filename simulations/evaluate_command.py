"""``bandit-router evaluate``: read the log, evaluate the targets, tell it in every form."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from bandit_router.config import RouterConfig
from bandit_router.errors import DataError
from bandit_router.ope import Limits
from bandit_router.store.engine import make_engine
from bandit_router.store.learner_store import PostgresLearnerStore
from simulations.evaluation import Evaluation, evaluate_rounds
from simulations.frozen import SnapshotSource
from simulations.json_file import write_json
from simulations.logs.checks import Dropped, checked, with_types
from simulations.logs.export import export_pages, pieces_folder
from simulations.logs.files import read_traffic
from simulations.logs.rounds import Log, load_log
from simulations.progress import stages
from simulations.report.page import dollars, number
from simulations.targets import LOGGED, TargetPmf, parse_target


def evaluate_command(
    log: str,
    *,
    targets: Sequence[str],
    budget_usd: float | None,
    segment: str | None,
    with_features: bool,
    url: str | None,
    config: RouterConfig | None,
    json_path: Path | None,
    html_path: Path | None,
    images_folder: Path | None,
) -> None:
    """Evaluate and print. Raises RouterError with the remedy."""
    with stages() as (on_stage, on_step):
        on_stage("reading the log", 1)
        loaded, dropped = load(log, segment, with_features)
        on_step()
        evaluation = evaluate_specs(
            loaded,
            targets,
            dropped=dropped,
            segment=segment,
            source=snapshot_source(log if "://" in log else url),
            config=config,
            budget_usd=budget_usd,
            on_stage=on_stage,
            on_step=on_step,
        )
    write_json(json_path, evaluation.as_json())
    print_evaluation(evaluation, Console())
    if html_path is not None or images_folder is not None:
        from simulations.evaluate_report import evaluation_content
        from simulations.report import write_files

        write_files(evaluation_content(evaluation, tuple(targets)), html_path, images_folder)


def evaluate_specs(
    log: Log,
    targets: Sequence[str],
    *,
    dropped: Dropped | None = None,
    segment: str | None = None,
    source: SnapshotSource | None = None,
    config: RouterConfig | None = None,
    budget_usd: float | None = None,
    limits: Limits | None = None,
    on_stage: Callable[[str, int], None] = lambda name, total: None,
    on_step: Callable[..., None] = lambda steps=1: None,
) -> Evaluation:
    """The targets that a user wrote, and every single model besides, on a loaded log."""
    wanted = list(dict.fromkeys([*targets, *singles(log)]))
    made: list[TargetPmf] = []
    for spec in wanted:
        if "@" in spec:
            on_stage(f"choosing as {spec}", len(log.rounds))
        made.append(
            parse_target(
                spec, log, source=source, config=config, budget_usd=budget_usd, on_row=on_step
            )
        )
    on_stage("estimating", len(made) + 1)
    notes = []
    if budget_usd is not None:
        notes.append(f"λ of the snapshots was solved anew for {dollars(budget_usd)} a request.")
    return evaluate_rounds(
        log,
        made,
        limits=limits,
        dropped=dropped,
        segment=segment,
        notes=notes,
        on_step=on_step,
    )


def singles(log: Log) -> list[str]:
    """Each model alone: evaluated besides, for the frontier."""
    return [f"fixed:{arm}" for arm in log.rounds.arms]


def load(log: str, segment: str | None, with_features: bool) -> tuple[Log, Dropped]:
    """The log of a file, or of a database by its URL."""
    if "://" not in log:
        frame, dropped = read_traffic(Path(log))
        return load_log(frame, segment=segment, with_features=with_features), dropped
    with _pieces(log) as folder:
        frame, dropped = read_traffic(folder)
        return load_log(frame, segment=segment, with_features=with_features), dropped


def loaded_frame(
    table: pl.DataFrame, segment: str | None, with_features: bool
) -> tuple[Log, Dropped]:
    """The log of a table in memory."""
    frame, dropped = checked(with_types(table.lazy(), "the frame"), "the frame")
    return load_log(frame, segment=segment, with_features=with_features), dropped


@contextmanager
def _pieces(url: str) -> Iterator[Path]:
    with pieces_folder() as folder:
        asyncio.run(export_pages(url, folder, since=None, until=None))
        yield folder


def snapshot_source(url: str | None) -> SnapshotSource | None:
    """Where snapshots are read from, None where no database is named."""
    if url is None:
        return None

    async def read(policy: str, version: int) -> bytes:
        engine = make_engine(url, pool_size=1)
        try:
            record = await PostgresLearnerStore(engine).snapshot(policy, version)
        finally:
            await engine.dispose()
        if record is None:
            raise DataError(
                f"the database has no snapshot {version} of policy '{policy}': it was thinned "
                "out, or never made; `bandit-router snapshots list` tells which there are"
            )
        return record.payload

    return lambda policy, version: asyncio.run(read(policy, version))


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """The table that a person reads, and below it what should not be missed."""
    table = Table(title=f"{evaluation.decisions:,} logged decisions")
    table.add_column("target")
    for name in ("quality", "against logged", "dollars", "seconds", "effective sample"):
        table.add_column(name, justify="right")
    for target in evaluation.targets:
        if target.refused is not None:
            table.add_row(target.name, "[red]refused[/red]", "", "", "", "")
            continue
        quality, cost = target.values.get("reward"), target.values.get("cost_usd")
        gain, seconds = target.gains.get("reward"), target.values.get("latency_s")
        table.add_row(
            target.name,
            f"{quality.value:.4f} ± {(quality.high - quality.low) / 2:.4f}" if quality else "–",
            ""
            if target.name == LOGGED or gain is None
            else f"{gain.value:+.4f} ± {(gain.high - gain.low) / 2:.4f}",
            dollars(cost.value) if cost else "–",
            number(seconds.value, 2) if seconds else "–",
            number(target.diagnostics.effective_sample_size, 0),
        )
    console.print(table)
    for target in evaluation.targets:
        if target.refused is not None:
            console.print(f"{target.name}: {target.refused.message}")
    rates = ", ".join(f"{arm} {rate:.0%}" for arm, rate in evaluation.feedback_rate.items())
    console.print(f"feedback on: {rates}")
    if evaluation.dropped is not None:
        for sentence in evaluation.dropped.sentences():
            console.print(sentence)
    for row in evaluation.hard_gains.to_dicts():
        console.print(
            f"hardest fifth, {row['policy']}: {row['difference']:+.4f} "
            f"({row['low']:+.4f} to {row['high']:+.4f})"
        )
