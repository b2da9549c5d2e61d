"""``bandit-router sweep``: the grid, its progress and its table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bandit_router.errors import DataError
from simulations.logs.files import Kind, expect
from simulations.matrix import read_matrix
from simulations.progress import stages
from simulations.report.page import dollars
from simulations.simulate import make_study
from simulations.sweep import cells_of, run_sweep, sweep_frame


def sweep_command(
    data: Path,
    out: Path,
    *,
    policies: Sequence[str],
    budgets: Sequence[str],
    seeds: int,
    warmup_split: str | None,
    score_split: str | None,
    feature_set: str,
    metadata: Sequence[str],
    jobs: int | None,
    cluster: str | None,
) -> None:
    """Run what is left of the sweep, and print its table. Raises RouterError with the remedy."""
    expect(data, Kind.MATRIX)
    budgets_usd = [budget_of(text) for text in budgets] or [None]
    matrix = read_matrix(data)
    cells = cells_of(policies or ["thompson"], budgets_usd, seeds)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = make_study(
            matrix,
            policy=cells[0].policy,
            budget_usd=max((b for b in budgets_usd if b is not None), default=None),
            warmup_split=warmup_split,
            score_split=score_split,
            text=feature_set,
            metadata=metadata,
            on_prompt=on_step,
        )
        on_stage("replaying", len(cells))
        workers = min(jobs or os.cpu_count() or 1, len(cells))
        results = run_sweep(study, cells, out, jobs=workers, cluster=cluster, on_cell=on_step)
    table = Table(title=f"{len(results)} replays of {study.score.size:,} requests; {out}")
    for name in ("policy", "budget", "mean reward", "mean cost", "budget used", "static mix"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for row in sweep_frame(study, results).to_dicts():
        half = (row["reward_high"] - row["reward_low"]) / 2
        used = row["budget_used"]
        table.add_row(
            row["policy"],
            "none" if row["budget_usd"] is None else dollars(row["budget_usd"]),
            f"{row['reward']:.4f}" + (f" ± {half:.4f}" if row["seeds"] > 1 else ""),
            dollars(row["cost_usd"]),
            "" if used is None else f"{used:.1%}",
            f"{row['static_mix']:.4f}",
        )
    Console().print(table)


def budget_of(text: str) -> float | None:
    """Dollars a request, or ``none``. Raises DataError."""
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"budget '{text}' is no number; write 2.3e-4, or none") from error
    if not value > 0.0:
        raise DataError(f"budget {text} must be above 0 dollars a request; write none for no limit")
    return value
