"""Files of logged traffic and of outcome matrices: read lazily, and never taken for each other."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import polars as pl
from polars.exceptions import ComputeError, PolarsError

from bandit_router.errors import DataError
from simulations.logs.checks import Dropped, checked, with_types
from simulations.logs.schema import TYPES, ColumnType

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv")
# Rows from which the types of a text file's columns are told.
LOOK_AT_ROWS = 10_000


class Kind(Enum):
    """What a file can be, with what it is called and what to do with it."""

    MATRIX = (
        "a full outcome matrix: every model's outcome on every prompt",
        "it replays any policy exactly: bandit-router simulate FILE",
    )
    TRAFFIC = (
        "logged traffic: one outcome per decision, with the probabilities it was drawn from",
        "it is evaluated off-policy: bandit-router evaluate FILE --target fixed:MODEL",
    )
    LITELLM = (
        "LiteLLM's spend log",
        "turn it into logged traffic first: bandit-router import litellm FILE --out log.parquet",
    )
    OTEL = (
        "an OpenTelemetry span export",
        "turn it into logged traffic first: bandit-router import otel FILE --out log.parquet",
    )
    UNKNOWN = (
        "neither an outcome matrix (prompt_id, prompt, model, quality) nor logged traffic "
        "(decision_id, arms, pmf, chosen, propensity)",
        "docs/simulation.md describes the one, docs/log-schema.md the other",
    )

    @property
    def words(self) -> str:
        """What it is."""
        return self.value[0]

    @property
    def remedy(self) -> str:
        """What to do with it."""
        return self.value[1]


def scan(path: Path) -> pl.LazyFrame:
    """A Parquet, JSONL or CSV file, or a folder or pattern of Parquet files, not yet read.

    Raises DataError with the remedy where that cannot be.
    """
    name = str(path)
    pattern = any(sign in name for sign in "*?[")
    if not pattern and not path.exists():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return pl.scan_parquet(path / "**/*.parquet")
        if suffix == ".parquet":
            return pl.scan_parquet(path)
        if suffix in (".jsonl", ".ndjson"):
            return pl.scan_ndjson(path, infer_schema_length=LOOK_AT_ROWS)
        if suffix == ".csv":
            texts = {name: kind for name, kind in TYPES.items() if kind == pl.String}
            return pl.scan_csv(
                path, infer_schema_length=LOOK_AT_ROWS, schema_overrides=_present(path, texts)
            )
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    raise DataError(f"{path}: cannot tell the format; the name must end in {', '.join(SUFFIXES)}")


def _present(path: Path, wanted: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """The wanted types of those columns that a CSV has: an id of digits must stay a text."""
    header = pl.scan_csv(path, infer_schema=False).collect_schema()
    return {name: kind for name, kind in wanted.items() if name in header}


def kind_of(path: Path) -> Kind:
    """What a file holds, by its columns alone. Raises DataError when it cannot be read."""
    if path.suffix.lower() == ".json":
        return Kind.OTEL
    frame = scan(path)
    try:
        columns = set(frame.collect_schema().names())
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    if {"chosen", "pmf"} & columns or {"decision_id", "propensity"} <= columns:
        return Kind.TRAFFIC
    if {"prompt_id", "model", "quality"} <= columns:
        return Kind.MATRIX
    if "resourceSpans" in columns:
        return Kind.OTEL
    if {"request_id", "spend", "model"} <= columns:
        return Kind.LITELLM
    return Kind.UNKNOWN


def expect(path: Path, wanted: Kind) -> None:
    """Raises DataError, saying what the file is and what to do with it, unless it is ``wanted``."""
    found = kind_of(path)
    if found is not wanted:
        raise DataError(
            f"{path} is {found.words}; this command needs {wanted.words}. "
            f"{found.remedy[0].upper()}{found.remedy[1:]}"
        )


def read_traffic(path: Path) -> tuple[pl.LazyFrame, Dropped]:
    """The sound decisions of a file of logged traffic, lazy, and what was left out.

    Raises DataError for a matrix, a missing column, or where too much is at fault.
    """
    expect(path, Kind.TRAFFIC)
    try:
        return checked(with_types(scan(path), str(path)), str(path))
    except ComputeError as error:
        raise DataError(
            f"{path} cannot be read: {first_line(error)}; docs/log-schema.md has each column's type"
        ) from error
    except PolarsError as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error


def write_traffic(frame: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write logged traffic in the format of the name. CSV carries lists as JSON text.

    Raises DataError for another ending.
    """
    lazy = frame.lazy()
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        lazy.sink_parquet(path)
    elif suffix in (".jsonl", ".ndjson"):
        lazy.sink_ndjson(path)
    elif suffix == ".csv":
        lists = [name for name, kind in lazy.collect_schema().items() if isinstance(kind, pl.List)]
        lazy.with_columns(_as_json(name) for name in lists).sink_csv(path)
    else:
        raise DataError(f"{path}: write to a name that ends in {', '.join(SUFFIXES)}")


def _as_json(name: str) -> pl.Expr:
    whole = pl.struct(pl.col(name).alias("v")).struct.json_encode()
    # '{"v":[…]}' without its wrapping.
    text = whole.str.slice(5).str.head(-1)
    return pl.when(pl.col(name).is_null()).then(None).otherwise(text).alias(name)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the rest of Polars' is about its query plan."""
    return (str(error) or type(error).__name__).splitlines()[0]
