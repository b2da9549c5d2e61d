"""From a checked log to the arrays that the estimators take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bandit_router.errors import DataError
from bandit_router.ope import LoggedRounds, logged_rounds
from bandit_router.types import FloatArray

EVERYTHING = "all"
UNLABELLED = "(none)"


@dataclass(frozen=True, slots=True)
class Log:
    """A log in memory. rounds: for the estimators. input_tokens: (n,), 0 where not known.

    answered_elsewhere: how many were answered by another model than the chosen one. dated:
    (first, last) created_at, None where the log has none.
    """

    rounds: LoggedRounds
    input_tokens: FloatArray
    answered_elsewhere: int
    dated: tuple[str, str] | None


def load_log(frame: pl.LazyFrame, *, segment: str | None = None, with_features: bool = True) -> Log:
    """The rounds of a checked log, in order of time.

    segment: a metadata key, or a column of the schema (``tenant``, ``policy`` …), whose values
    label the rounds. with_features: without them no reward model can be fitted, and a long log
    takes a fraction of the memory. Only the columns in use are read.
    """
    names = ["arms", "pmf", "eligible", "chosen", "answered_by", "reward", "cost_usd"]
    names += ["latency_s", "input_tokens", "created_at"]
    columns = [pl.col(name) for name in names]
    if with_features:
        columns.append(pl.col("features"))
    if segment is not None:
        columns.append(_segment_column(frame, segment).alias("_segment"))
    table = frame.select(columns).collect(engine="streaming")
    if table["created_at"].null_count() == 0:
        table = table.sort("created_at", maintain_order=True)
    arms = tuple(table["arms"].explode().unique(maintain_order=True).to_list())
    pmf = _aligned(table, "pmf", arms).astype(np.float64)
    # The log may carry six digits: estimators hold a pmf to more than that.
    pmf = np.maximum(pmf, 0.0)
    pmf /= pmf.sum(axis=1, keepdims=True)
    eligible = pmf > 0.0
    if table["eligible"].null_count() == 0:
        eligible |= (
            _aligned(
                table.with_columns(pl.col("eligible").cast(pl.List(pl.Float64))), "eligible", arms
            )
            > 0.0
        )
    position = {name: k for k, name in enumerate(arms)}
    chosen = table["chosen"].replace_strict(position, return_dtype=pl.Int64).to_numpy()
    segments = None
    if segment is not None:
        segments = table["_segment"].fill_null(UNLABELLED).to_list()
    rounds = logged_rounds(
        arms=arms,
        arm=chosen,
        pmf=pmf,
        reward=_numbers(table, "reward"),
        features=_features(table) if with_features else None,
        cost_usd=_numbers(table, "cost_usd"),
        latency_s=_numbers(table, "latency_s"),
        eligible=eligible,
        segment=segments,
    )
    elsewhere = table.filter(
        pl.col("answered_by").is_not_null() & (pl.col("answered_by") != pl.col("chosen"))
    )
    first, last = table["created_at"].min(), table["created_at"].max()
    return Log(
        rounds=rounds,
        input_tokens=np.nan_to_num(_numbers(table, "input_tokens")),
        answered_elsewhere=elsewhere.height,
        dated=None if first is None else (str(first), str(last)),
    )


def _segment_column(frame: pl.LazyFrame, segment: str) -> pl.Expr:
    if segment in ("tenant", "policy", "session_id", "status", "extractor_version"):
        return pl.col(segment)
    value = pl.col("metadata").str.json_path_match(f"$['{segment}']")
    found = frame.select(value.drop_nulls().head(1)).collect()
    if found.height == 0:
        raise DataError(
            f"no decision has '{segment}' in its metadata; segments are metadata keys, or tenant, "
            "policy, session_id, status"
        )
    return value


def _aligned(table: pl.DataFrame, name: str, arms: Sequence[str]) -> FloatArray:
    """(n, K) a list column in one order of arms; 0 where a row has not all of them."""
    distinct = table["arms"].unique()
    if len(distinct) == 1:
        own = distinct[0].to_list()
        flat = table[name].explode().to_numpy().reshape(table.height, len(own))
        return np.asarray(flat[:, [own.index(arm) for arm in arms]], dtype=np.float64)
    long = (
        table.select("arms", name)
        .with_row_index("_at")
        .explode("arms", name)
        .with_columns(
            pl.col("arms").replace_strict(
                {arm: k for k, arm in enumerate(arms)}, return_dtype=pl.Int64
            )
        )
    )
    wide = np.zeros((table.height, len(arms)))
    wide[long["_at"].to_numpy(), long["arms"].to_numpy()] = long[name].to_numpy()
    return wide


def _numbers(table: pl.DataFrame, name: str) -> FloatArray:
    return np.asarray(table[name].cast(pl.Float64).fill_null(np.nan).to_numpy())


def _features(table: pl.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.float32]] | None:
    known = table["features"]
    if known.null_count() == table.height:
        return None
    if known.null_count():
        raise DataError(
            f"{known.null_count()} of {table.height} decisions have no features: leave them out "
            "of the log, or evaluate without features (--no-features)"
        )
    width = len(known[0])
    return known.explode().to_numpy().astype(np.float32).reshape(table.height, width)
