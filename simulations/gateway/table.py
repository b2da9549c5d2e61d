"""The gateway benchmark's report as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_gateway(result: dict[str, Any], console: Console) -> None:
    """A row per load and target, then the router's ratios and the peers that were absent."""
    table = Table(
        "load",
        "target",
        *("requests/s", "p50 ms", "p99 ms", "added p50", "added p99"),
        *("CPU µs", "its learner's", "Postgres µs", "CPU µs/chunk"),
    )
    for load in result["loads"]:
        name = f"{load['connections']}{' streamed' if load['stream'] else ''}"
        rows = {key: row for key, row in load.items() if isinstance(row, dict) and "p50_ms" in row}
        for target, row in rows.items():
            table.add_row(
                name,
                target,
                f"{row['requests_per_s']:.0f}",
                *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms")),
                *(f"{row[key]:.2f}" for key in ("added_p50_ms", "added_p99_ms")),
                f"{row['cpu_us_per_request']:.0f}",
                f"{row['learner_cpu_us_per_request']:.0f}" if target == "router" else "",
                f"{row['postgres_cpu_us_per_request']:.0f}" if target == "router" else "",
                f"{row['cpu_us_per_chunk']:.1f}" if load["stream"] else "",
                end_section=target == list(rows)[-1],
            )
    console.print(table)
    for load in result["loads"]:
        name = f"{load['connections']} connections{', streamed' * load['stream']}"
        ratio = load["cpu_ratio"]
        told = "not measurable" if ratio is None else f"{ratio:.2f} times the pass-through's"
        others = ", ".join(
            f"{times:.2f} x {target}" for target, times in load["throughput_ratios"].items()
        )
        console.print(f"{name}: CPU per request {told}; requests per second {others}")
    for peer, why in result["absent"].items():
        console.print(f"{peer} was absent: {why}", soft_wrap=True)
