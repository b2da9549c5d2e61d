"""The options that offline commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandit_router.errors import DataError

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="An outcome matrix.")]
OutOption = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="FILE", help="Ends in .parquet, .jsonl or .csv."),
]
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
PolicyOption = Annotated[str, typer.Option(help="The policy to run, as for simulate.")]
FeatureSetOption = Annotated[
    str, typer.Option(help="What is known of a prompt: none, hashed or minilm.")
]
MetadataOption = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns that become features: category, say.")
]
SnapshotConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Prices and features of snapshots."),
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]


def listed(text: str | None) -> tuple[str, ...]:
    """The parts of ``A,B``; none of an option that was not given."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def numbers(text: str | None, option: str) -> tuple[float, ...]:
    """The positive numbers of a comma list. Raises DataError naming the option."""
    try:
        found = tuple(float(part) for part in listed(text))
    except ValueError as error:
        raise DataError(f"{option} {text}: give numbers, 1e-4,2e-4 say ({error})") from error
    if any(not 0.0 < number < float("inf") for number in found):
        raise DataError(f"{option} {text}: every number must be positive")
    return found
