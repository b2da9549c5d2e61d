"""LiteLLM's spend logs as logged traffic, as far as that can be.

They say which model served each call, at what cost and latency; not what else could have been
chosen, nor with which probability.
"""

from __future__ import annotations

import json

import polars as pl

from bandit_router.errors import DataError
from simulations.logs.imported import (
    REASON,
    Imported,
    in_schema,
    with_estimated_pmf,
    with_scores,
    without_reasons,
)

NEEDED = ("request_id", "model", "spend", "startTime", "endTime")
# Types of call that a router chooses a model for.
CALL_TYPES = (
    *("completion", "acompletion", "text_completion", "atext_completion"),
    *("responses", "aresponses", "anthropic_messages"),
)


def from_litellm(
    frame: pl.LazyFrame, *, estimate_propensities: bool, scores: pl.DataFrame | None = None
) -> Imported:
    """The spend log's calls as decisions, its model groups as the metadata ``model_group``.

    estimate_propensities: take each model's share within its group for its probability.
    scores: request_id and reward, joined on. Raises DataError with the remedy.
    """
    found = frame.collect_schema()
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise DataError(
            f"a LiteLLM spend log has the columns {', '.join(NEEDED)}; "
            f"missing: {', '.join(missing)}"
        )

    def column(name: str, kind: type[pl.DataType]) -> pl.Expr:
        there = pl.col(name) if name in found else pl.lit(None)
        return there.cast(kind, strict=False).alias(name)

    rows = (
        frame.select(
            column("request_id", pl.String).alias("decision_id"),
            column("model", pl.String),
            column("model_group", pl.String),
            column("spend", pl.Float64).alias("cost_usd"),
            _time("startTime", found["startTime"]).alias("created_at"),
            _time("endTime", found["endTime"]).alias("ended"),
            column("prompt_tokens", pl.Float64).alias("input_tokens"),
            column("completion_tokens", pl.Float64).alias("output_tokens"),
            column("status", pl.String).fill_null("success"),
            column("call_type", pl.String).fill_null(CALL_TYPES[0]),
            column("cache_hit", pl.String).str.to_lowercase(),
            column("session_id", pl.String),
            column("team_id", pl.String).alias("tenant"),
        )
        .with_columns(
            pl.when(pl.col("decision_id").is_null() | (pl.col("model").fill_null("") == ""))
            .then(pl.lit("without request_id or model"))
            .when(~pl.col("decision_id").is_first_distinct())
            .then(pl.lit("with a doubled request_id"))
            .when(pl.col("cache_hit") == "true")
            .then(pl.lit("answered from the cache"))
            .when(~pl.col("call_type").is_in(CALL_TYPES))
            .then(pl.lit("of another type of call"))
            .when(pl.col("status") != "success")
            .then(pl.lit("failed"))
            .alias(REASON),
            pl.when(pl.col("model_group").fill_null("") == "")
            .then(pl.col("model"))
            .otherwise(pl.col("model_group"))
            .alias("group"),
        )
        .collect(engine="streaming")
    )
    kept, left_out = without_reasons(rows)
    kept, notes = with_estimated_pmf(kept, "LiteLLM's spend logs", estimate_propensities)
    groups = {group: json.dumps({"model_group": group}) for group in kept["group"].unique()}
    log = with_scores(kept, scores).with_columns(
        pl.col("model").alias("chosen"),
        pl.col("model").alias("answered_by"),
        pl.lit("policy").alias("mode"),
        pl.lit("litellm").alias("policy"),
        pl.lit("ok").alias("status"),
        pl.col("group").replace_strict(groups, return_dtype=pl.String).alias("metadata"),
        ((pl.col("ended") - pl.col("created_at")).dt.total_microseconds() / 1e6).alias("latency_s"),
    )
    return Imported(in_schema(log), rows.height, left_out, notes)


def _time(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind == pl.String:
        return column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    if isinstance(kind, pl.Datetime) and kind.time_zone is None:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.cast(pl.Datetime("us", "UTC"))
