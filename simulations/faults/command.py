"""``bandit-router faults``: run the failure matrix and print it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.faults.matrix import CaseResult, run_matrix


def faults_command(json_path: Path | None, console: Console) -> bool:
    """Run every case, print a table, and say whether all of them went as stated."""
    results = asyncio.run(run_matrix())
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
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
