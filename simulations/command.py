"""``bandit-router simulate``: progress, table and JSON around a study."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bandit_router.prior_file import read_prior
from simulations.json_file import write_json
from simulations.logs.files import Kind, expect
from simulations.matrix import read_matrix
from simulations.progress import stages
from simulations.simulate import Summary, make_study, run_study


def simulate_command(
    data: Path,
    *,
    policy: str,
    budget_usd: float | None,
    seeds: int,
    json_path: Path | None,
    models: Sequence[str] | None,
    warmup_split: str | None,
    score_split: str | None,
    feature_set: str,
    metadata: Sequence[str],
    jobs: int | None,
    html_path: Path | None = None,
    images_folder: Path | None = None,
    prior_path: Path | None = None,
) -> None:
    """Run the study, print its table and write its JSON. Raises RouterError with the remedy."""
    expect(data, Kind.MATRIX)
    matrix = read_matrix(data, models)
    with stages() as (on_stage, on_step):
        on_stage("reading prompts", len(matrix.prompts))
        study = make_study(
            matrix,
            policy=policy,
            budget_usd=budget_usd,
            warmup_split=warmup_split,
            score_split=score_split,
            text=feature_set,
            metadata=metadata,
            prior=read_prior(prior_path) if prior_path else None,
            on_prompt=on_step,
        )
        on_stage("replaying seeds", seeds)
        workers = min(jobs or os.cpu_count() or 1, seeds)
        summary = run_study(study, range(seeds), workers, on_seed=on_step)
    write_json(json_path, summary.as_json())
    print_summary(summary, Console())
    if html_path is not None or images_folder is not None:
        # Plotting is slow to load, and most runs do not need it.
        from simulations.report import write_files
        from simulations.simulate_report import simulation_content

        write_files(simulation_content(study, summary), html_path, images_folder)


def print_summary(summary: Summary, console: Console) -> None:
    """The table that a person reads."""
    budget = (
        "no budget" if summary.budget_usd is None else f"{_dollars(summary.budget_usd)} a request"
    )
    size = f"{len(summary.seeds)} seeds × {summary.requests} requests"
    table = Table(title=f"{summary.policy}, {budget}, {size}")
    table.add_column("policy")
    table.add_column("mean reward", justify="right")
    table.add_column("mean cost", justify="right")
    interval = summary.reward_ci95
    spread = f" ± {(interval[1] - interval[0]) / 2:.4f}" if interval else ""
    table.add_row(summary.policy, f"{summary.reward:.4f}{spread}", _dollars(summary.cost_usd))
    names = {
        "best_single": "best single model within budget",
        "static_mix": "best static mix at the same spend",
        "random": "random",
        "oracle": "oracle within budget",
    }
    for key, label in names.items():
        baseline = summary.baselines[key]
        table.add_row(label, f"{baseline.reward:.4f}", _dollars(baseline.cost_usd), style="dim")
    console.print(table)
    if summary.utilisation is not None:
        mean, worst = summary.utilisation
        console.print(f"budget used: {mean:.1%} on average, {worst:.1%} in the worst seed")
    shares = ", ".join(f"{name} {share:.1%}" for name, share in summary.shares.items())
    console.print(f"shares: {shares}")
    console.print(f"regret against the oracle: {summary.regret:.4f} a request")


def _dollars(amount: float) -> str:
    return f"${amount:.3g}" if math.isfinite(amount) else "unknown"
