"""Full outcome matrices: what every model's answer to every prompt was worth and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from bandit_router.errors import DataError
from bandit_router.types import BoolArray, FloatArray, IntArray

REQUIRED = ("prompt_id", "prompt", "model", "quality")
OPTIONAL = ("category", "cost_usd", "latency_ms", "input_tokens", "output_tokens", "split")


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """N prompts by K models. NaN where an outcome is not known.

    quality, cost_usd, latency_s, input_tokens, output_tokens: (N, K).
    category, split: per prompt, "" where the data have none.
    """

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    category: tuple[str, ...]
    split: tuple[str, ...]
    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray

    @property
    def known(self) -> BoolArray:
        """(N, K) whether the model's outcome on the prompt is recorded."""
        return np.isfinite(self.quality)

    def rows(self, index: IntArray) -> OutcomeMatrix:
        """The matrix of some prompts only. index: (n,) positions."""
        chosen = [int(i) for i in index]
        return replace(
            self,
            prompt_ids=tuple(self.prompt_ids[i] for i in chosen),
            prompts=tuple(self.prompts[i] for i in chosen),
            category=tuple(self.category[i] for i in chosen),
            split=tuple(self.split[i] for i in chosen),
            quality=self.quality[chosen],
            cost_usd=self.cost_usd[chosen],
            latency_s=self.latency_s[chosen],
            input_tokens=self.input_tokens[chosen],
            output_tokens=self.output_tokens[chosen],
        )


def read_matrix(path: Path, models: Sequence[str] | None = None) -> OutcomeMatrix:
    """Read Parquet, JSONL or CSV in the long form: one row per prompt and model.

    models: keep these, in this order; None keeps all, in order of first appearance.
    Raises DataError naming the column, row or model and the remedy.
    """
    frame = _read_frame(path)
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {', '.join(missing)} missing; needed are {', '.join(REQUIRED)}, "
            f"and {', '.join(OPTIONAL)} are used where present. Found: {', '.join(frame.columns)}"
        )
    return matrix_from_frame(frame, models, source=str(path))


def _read_frame(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a Parquet, JSONL or CSV outcome matrix")
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
        ".csv": pl.read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: unknown kind of file '{path.suffix}'; give .parquet, .jsonl or .csv"
        )
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def matrix_from_frame(
    frame: pl.DataFrame, models: Sequence[str] | None, *, source: str
) -> OutcomeMatrix:
    """The matrix of a long frame; see ``read_matrix``."""
    for name in ("prompt_id", "model"):
        nameless = frame.filter(pl.col(name).is_null())
        if nameless.height:
            raise DataError(
                f"{source}: {nameless.height} rows have no {name}; the first is "
                f"{nameless.row(0, named=True)}; fill it in or drop them"
            )
    if frame["quality"].dtype == pl.String:
        numbers = frame["quality"].cast(pl.Float64, strict=False)
        worded = frame.filter(numbers.is_null() & frame["quality"].is_not_null())
        if worded.height:
            first = worded.row(0, named=True)
            raise DataError(
                f"{source}: quality '{first['quality']}' of prompt {first['prompt_id']}, model "
                f"{first['model']} is not a number ({worded.height} such rows)"
            )
    frame = frame.with_columns(
        [pl.lit(None).alias(name) for name in OPTIONAL if name not in frame.columns]
    ).with_columns(
        pl.col("prompt_id").cast(pl.String),
        pl.col("prompt").cast(pl.String).fill_null(""),
        pl.col("model").cast(pl.String),
        pl.col("category").cast(pl.String).fill_null(""),
        pl.col("split").cast(pl.String).fill_null(""),
        pl.col("quality", "cost_usd", "latency_ms", "input_tokens", "output_tokens").cast(
            pl.Float64, strict=False
        ),
    )
    found = frame["model"].unique(maintain_order=True).to_list()
    wanted = list(models) if models else found
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise DataError(
            f"{source}: no outcomes of model {', '.join(unknown)}; it has {', '.join(found)}"
        )
    if len(wanted) != len(set(wanted)):
        raise DataError(f"{source}: a model is named twice in {', '.join(wanted)}")
    frame = frame.filter(pl.col("model").is_in(wanted))
    doubled = frame.select("prompt_id", "model", "split").is_duplicated()
    if doubled.any():
        first = frame.filter(doubled).row(0, named=True)
        raise DataError(
            f"{source}: prompt {first['prompt_id']} has several rows for model {first['model']} "
            f"({int(doubled.sum())} such rows); keep one each"
        )
    strange = frame.filter(~pl.col("quality").is_between(0.0, 1.0))
    if strange.height:
        first = strange.row(0, named=True)
        raise DataError(
            f"{source}: quality {first['quality']} of prompt {first['prompt_id']}, model "
            f"{first['model']} lies outside [0, 1] ({strange.height} such rows); rescale it"
        )
    negative = frame.filter(pl.col("cost_usd") < 0.0)
    if negative.height:
        first = negative.row(0, named=True)
        raise DataError(
            f"{source}: cost_usd {first['cost_usd']} of prompt {first['prompt_id']} is negative"
        )
    keys = frame.unique(["prompt_id", "split"], maintain_order=True).select(
        "prompt_id", "split", "prompt", "category"
    )
    if keys.height == 0:
        raise DataError(f"{source}: no rows; there is nothing to replay")

    def table(column: str) -> FloatArray:
        wide = frame.pivot(on="model", index=["prompt_id", "split"], values=column)
        lined = keys.join(wide, on=["prompt_id", "split"], how="left", maintain_order="left")
        return np.array(lined.select(wanted).to_numpy(), dtype=np.float64)

    return OutcomeMatrix(
        prompt_ids=tuple(keys["prompt_id"].to_list()),
        prompts=tuple(keys["prompt"].to_list()),
        category=tuple(keys["category"].to_list()),
        split=tuple(keys["split"].to_list()),
        models=tuple(wanted),
        quality=table("quality"),
        cost_usd=table("cost_usd"),
        latency_s=table("latency_ms") / 1000.0,
        input_tokens=table("input_tokens"),
        output_tokens=table("output_tokens"),
    )


def frame_of(matrix: OutcomeMatrix) -> pl.DataFrame:
    """The matrix in the long form that ``read_matrix`` takes; unknown outcomes are left out."""
    count, arms = matrix.quality.shape
    long = {
        "prompt_id": np.repeat(matrix.prompt_ids, arms),
        "prompt": np.repeat(matrix.prompts, arms),
        "category": np.repeat(matrix.category, arms),
        "split": np.repeat(matrix.split, arms),
        "model": np.tile(matrix.models, count),
        "quality": matrix.quality.ravel(),
        "cost_usd": matrix.cost_usd.ravel(),
        "latency_ms": 1000.0 * matrix.latency_s.ravel(),
        "input_tokens": matrix.input_tokens.ravel(),
        "output_tokens": matrix.output_tokens.ravel(),
    }
    frame = pl.DataFrame(long).with_columns(pl.selectors.float().fill_nan(None))
    return frame.filter(pl.col("quality").is_not_null())
