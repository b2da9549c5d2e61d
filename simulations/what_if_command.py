"""``bandit-router what-if``: the frontier before and after a change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from bandit_router.errors import DataError
from simulations.baselines import fixed
from simulations.evaluate_command import load
from simulations.json_file import write_json
from simulations.logs.files import Kind, kind_of
from simulations.matrix import OutcomeMatrix, read_matrix
from simulations.progress import stages
from simulations.report import Curve, Finding, Level, Point, ReportContent, Role, write_files
from simulations.report.page import dollars
from simulations.simulate import Study, Summary, make_study, run_study
from simulations.what_if import Changes, budgets_for, changed, frontier, matrix_of_log

BEFORE, AFTER = "before", "after"


def what_if_command(
    data: str,
    changes: Changes,
    *,
    budget_usd: float | None,
    new_budget_usd: float | None,
    policy: str,
    seeds: int,
    feature_set: str,
    metadata: Sequence[str],
    jobs: int | None,
    json_path: Path | None,
    html_path: Path | None,
    images_folder: Path | None,
) -> None:
    """Draw both frontiers and, on a matrix, run the router in both worlds."""
    if not changes.words() and new_budget_usd is None:
        raise DataError(
            "nothing is changed: give --price, --remove, --add, --max-latency or --new-budget"
        )
    traffic = "://" in data or kind_of(Path(data)) is not Kind.MATRIX
    with stages() as (on_stage, on_step):
        on_stage("reading", 1)
        before = matrix_of_log(load(data, None, True)[0]) if traffic else read_matrix(Path(data))
        on_step()
        after = changed(before, changes)
        budgets = budgets_for(before, after)
        frame = pl.concat(
            frontier(matrix, budgets, traffic).with_columns(pl.lit(name).alias("world"))
            for name, matrix in ((BEFORE, before), (AFTER, after))
        )
        runs: dict[str, tuple[Study, Summary]] = {}
        if not traffic:
            later = budget_usd if new_budget_usd is None else new_budget_usd
            for name, matrix, budget in ((BEFORE, before, budget_usd), (AFTER, after, later)):
                on_stage(f"the world {name}", len(matrix.prompts) + seeds)
                study = make_study(
                    matrix,
                    policy=policy,
                    budget_usd=budget,
                    warmup_split=None,
                    score_split=None,
                    text=feature_set,
                    metadata=metadata,
                    on_prompt=on_step,
                )
                workers = min(jobs or os.cpu_count() or 1, seeds)
                runs[name] = study, run_study(study, range(seeds), workers, on_seed=on_step)
    words = changes.words()
    if new_budget_usd is not None:
        words.append(f"the budget is {dollars(new_budget_usd)} a request")
    content = what_if_content(before, after, frame, runs, words, traffic)
    _print(content, frame, Console())
    told = {
        "changes": words,
        "frontier": frame.to_dicts(),
        "router": {name: run[1].as_json() for name, run in runs.items()},
    }
    write_json(json_path, told)
    if html_path is not None or images_folder is not None:
        write_files(content, html_path, images_folder)


def what_if_content(
    before: OutcomeMatrix,
    after: OutcomeMatrix,
    frame: pl.DataFrame,
    runs: dict[str, tuple[Study, Summary]],
    words: Sequence[str],
    traffic: bool,
) -> ReportContent:
    """The two worlds as one report."""
    points = []
    for name, (_, summary) in runs.items():
        points.append(
            Point(
                name=f"{summary.policy}, {name}",
                role=Role.TARGET,
                quality=summary.reward,
                cost_usd=summary.cost_usd,
                quality_interval=summary.reward_ci95,
                estimator="replayed exactly",
            )
        )
    for name, matrix in ((BEFORE, before), (AFTER, after)):
        points += [
            Point(f"{model}, {name}", Role.MODEL, found.reward, found.cost_usd)
            for model, found in zip(matrix.models, fixed(matrix), strict=True)
            if name == AFTER or model not in after.models
        ]
    curves = [
        Curve(
            f"{line}, {name}",
            tuple(
                group.unique(["cost_usd"], keep="last")
                .sort("cost_usd")
                .select("cost_usd", "quality")
                .iter_rows()
            ),
        )
        for (line, name), group in frame.group_by(["line", "world"], maintain_order=True)
    ]
    findings = [Finding(Level.NOTE, f"What if {' and '.join(words)}?")]
    if len(runs) == 2:
        old, new = runs[BEFORE][1], runs[AFTER][1]
        gain = new.reward - old.reward
        findings.append(
            Finding(
                Level.GOOD if gain >= -0.001 else Level.WARNING,
                f"{new.policy} would go from {old.reward:.4f} at {dollars(old.cost_usd)} to "
                f"{new.reward:.4f} at {dollars(new.cost_usd)} a request ({gain:+.4f}).",
            )
        )
    findings.append(_largest_move(frame))
    return ReportContent(
        title="What if",
        subtitle="The frontier of cost and quality, before and after: "
        + "; ".join(words)
        + (
            ". From logged traffic: by what the log's own models expect, without an interval."
            if traffic
            else ". Replayed on recorded outcomes."
        ),
        facts={
            "requests": f"{len(before.prompts):,}",
            "models": f"{len(before.models)} → {len(after.models)}",
        },
        findings=findings,
        points=points or [],
        reference=points[0].name,
        curves=curves,
        method=(
            "A new model is taken to be strong and weak where the model it is likened to is, "
            "moved to the assumed mean quality.",
        ),
    )


def _largest_move(frame: pl.DataFrame) -> Finding:
    """Where the static mix moves most between the worlds."""
    mixes = frame.filter(pl.col("line") == "best static mix")
    wide = mixes.pivot(on="world", index="budget_usd", values="quality").with_columns(
        (pl.col(AFTER) - pl.col(BEFORE)).alias("gain")
    )
    row = wide.sort(pl.col("gain").abs(), descending=True).row(0, named=True)
    return Finding(
        Level.NOTE,
        f"The best static mix moves most at {dollars(row['budget_usd'])} a request: from "
        f"{row[BEFORE]:.4f} to {row[AFTER]:.4f}.",
    )


def _print(content: ReportContent, frame: pl.DataFrame, console: Console) -> None:
    lines = frame["line"].unique(maintain_order=True).to_list()
    table = Table(title=content.findings[0].text)
    table.add_column("budget", justify="right")
    for line in lines:
        for name in (BEFORE, AFTER):
            table.add_column(f"{line}, {name}", justify="right")
    for (budget,), group in frame.group_by(["budget_usd"], maintain_order=True):
        cells = {(row["line"], row["world"]): row["quality"] for row in group.to_dicts()}
        assert isinstance(budget, float)
        table.add_row(
            dollars(budget),
            *(f"{cells[line, name]:.4f}" for line in lines for name in (BEFORE, AFTER)),
        )
    console.print(table)
    for finding in content.findings[1:]:
        console.print(finding.text)
