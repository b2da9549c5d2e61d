"""``bandit-router faults`` and ``benchmark soak``: what they found, printed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.faults.matrix import CaseResult, run_matrix
from simulations.json_file import write_json


def faults_command(json_path: Path | None, console: Console) -> bool:
    """Run every case, print a table, and say whether all of them went as stated."""
    results = asyncio.run(run_matrix())
    write_json(json_path, [asdict(result) for result in results])
    console.print(table_of(results))
    wrong = [result for result in results if result.problems]
    console.print(f"{len(results) - len(wrong)} of {len(results)} cases ended as stated")
    return not wrong


def table_of(results: Sequence[CaseResult]) -> Table:
    """One row a case."""
    table = Table("fault", "mode", "position", "ends in", "attempts", "s", "")
    for result in results:
        table.add_row(
            result.fault,
            "stream" if result.stream else "whole",
            result.position,
            result.ended,
            ", ".join(status for _, status in result.attempts),
            f"{result.seconds:.2f}",
            "; ".join(result.problems) or "ok",
        )
    return table


def print_soak(result: dict[str, Any], console: Console) -> None:
    """How requests ended, what was lost, and how memory went."""
    table = Table("", "")
    for name in ("requests", "calls_made_to_fail", "hung"):
        table.add_row(name.replace("_", " "), str(result[name]))
    for name in ("lost_decisions", "lost_outcomes", "lost_feedback"):
        table.add_row(name.replace("_", " "), str(result[name]))
    ended = ", ".join(f"{how}: {count}" for how, count in sorted(result["ended"].items()))
    table.add_row("ended", ended)
    for name, key in (("memory, MB", "rss_mb"), ("of the learner, MB", "rss_mb_of_learner")):
        table.add_row(name, " ".join(f"{sample:.0f}" for sample in result[key]))
    console.print(table)
    console.print("; ".join(result["problems"]) or "nothing lost, nothing hung")
