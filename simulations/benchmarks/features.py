"""What an extraction costs: ``python -m simulations.benchmarks.features``.

Median microseconds per extractor on a short and a 4,000-character prompt, beside the cheapest
thing one could do with a prompt, ``len(text.split())``. For ratios, not promises.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from bandit_router.config import FeaturesConfig
from bandit_router.features import EXTRACTORS, build_extractor
from bandit_router.types import RoutingRequest

_SHORT = "Write a Python function to find the length of the last word in a given string."
_SENTENCES = (
    "Question: A farmer sells {n} melons at ${n}.50 each; how much does he earn?\n",
    "Explain why the tides of harbour number {n} follow the moon, step by step.\n",
    "(A) friction number {n} (B) gravity (C) the wind\n",
)
_LONG = "".join(_SENTENCES[n % 3].format(n=n) for n in range(80))[:4000]


def main() -> None:
    """Measure every registered extractor and print the table."""
    config = FeaturesConfig()
    extractors = {name: build(config) for name, build in EXTRACTORS.items()}
    extractors["default"] = build_extractor(config)
    requests = [_request(_SHORT), _request(_LONG)]
    baseline = [_median_us(partial(_split_count, text)) for text in (_SHORT, _LONG)]
    table = Table(title="feature extraction, median µs (times the cost of str.split)")
    for column in (
        "extractor",
        "features",
        f"{len(_SHORT)} characters",
        f"{len(_LONG)} characters",
    ):
        table.add_column(column, justify="left" if column == "extractor" else "right")
    table.add_row("str.split", "", *(f"{cost:.1f}" for cost in baseline))
    for name, extractor in extractors.items():
        costs = [_median_us(partial(extractor.extract, request)) for request in requests]
        cells = [
            f"{cost:,.0f} ({cost / plain:,.1f}×)"
            for cost, plain in zip(costs, baseline, strict=True)
        ]
        table.add_row(name, str(len(extractor.names)), *cells)
    Console().print(table)


def _request(text: str) -> RoutingRequest:
    return RoutingRequest(messages=({"role": "user", "content": text},), metadata={"task": "qa"})


def _split_count(text: str) -> int:
    return len(text.split())


def _median_us(call: Callable[[], object]) -> float:
    call()
    timer = timeit.Timer(call)
    # Enough calls a round for the clock, enough rounds for the median.
    calls = max(1, int(2e-3 / max(timer.timeit(1), 1e-7)))
    rounds = sorted(timer.repeat(repeat=31, number=calls))
    return rounds[len(rounds) // 2] / calls * 1e6


if __name__ == "__main__":
    main()
