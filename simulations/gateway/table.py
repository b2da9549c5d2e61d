"""The gateway benchmark's report as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_gateway(result: dict[str, Any], console: Console) -> None:
    """A row per load and target, and under each pair what the router adds."""
    table = Table("load", "target", "requests/s", "p50 ms", "p99 ms", "CPU µs", "CPU µs/chunk")
    for load in result["loads"]:
        name = f"{load['connections']}{' streamed' if load['stream'] else ''}"
        for target in ("pass_through", "router"):
            row = load[target]
            chunk = row.get("cpu_us_per_chunk")
            table.add_row(
                name,
                target,
                f"{row['requests_per_s']:.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['cpu_us_per_request']:.0f}",
                "" if chunk is None else f"{chunk:.1f}",
            )
        ratio = load["cpu_ratio"]
        table.add_row(
            name,
            "added",
            "",
            f"{load['added_p50_ms']:.2f}",
            f"{load['added_p99_ms']:.2f}",
            "" if ratio is None else f"{ratio:.2f} x",
            "",
            end_section=True,
        )
    console.print(table)
