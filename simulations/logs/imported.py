"""What the loaders of other gateways' logs have in common."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from bandit_router.errors import DataError
from simulations.logs.schema import TYPES

REASON = "_reason"


@dataclass(frozen=True, slots=True)
class Imported:
    """log: in the schema. read: calls in the source. left_out: how many and why.

    notes: what was assumed, for whoever reads an estimate that is made of it.
    """

    log: pl.DataFrame
    read: int
    left_out: dict[str, int]
    notes: tuple[str, ...]


def without_reasons(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows whose ``_reason`` is null, and the counts of the others."""
    counts = rows.drop_nulls(REASON).group_by(REASON).len().sort(REASON)
    left_out = {str(row[REASON]): int(row["len"]) for row in counts.to_dicts()}
    kept = rows.filter(pl.col(REASON).is_null()).drop(REASON)
    if kept.height == 0:
        raise DataError(
            f"none of {rows.height} rows is a call that a model answered: "
            + (", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no rows")
        )
    return kept, left_out


def with_estimated_pmf(
    rows: pl.DataFrame, source: str, allowed: bool
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """``arms``, ``pmf`` and ``propensity`` by the shares of ``model`` within ``group``.

    Right only where the gateway drew at random within a group, so it must be ``allowed``.
    Returns notes too. Raises DataError where it is not allowed.
    """
    if not allowed:
        raise DataError(
            f"{source} do not say with which probability a model was chosen, so that nothing can "
            "be estimated about another policy. Where models were drawn at random within a group "
            "(LiteLLM's simple-shuffle, say), add --estimate-propensities: each model's share of "
            "its group then stands for its probability"
        )
    shares = (
        rows.group_by("group", "model")
        .len()
        .with_columns((pl.col("len") / pl.col("len").sum().over("group")).alias("propensity"))
        .sort("group", "model")
    )
    vectors = shares.group_by("group", maintain_order=True).agg(
        pl.col("model").alias("arms"), pl.col("propensity").alias("pmf")
    )
    notes = ["propensities are the models' shares within their group, as if drawn at random"]
    single = vectors.filter(pl.col("arms").list.len() == 1)["group"].to_list()
    if single:
        notes.append(
            "groups with one model only, of which nothing can be learned: " + ", ".join(single)
        )
    joined = rows.join(vectors, on="group", how="left", maintain_order="left").join(
        shares.select("group", "model", "propensity"),
        on=["group", "model"],
        how="left",
        maintain_order="left",
    )
    return joined, tuple(notes)


def with_scores(rows: pl.DataFrame, scores: pl.DataFrame | None) -> pl.DataFrame:
    """The rows with ``reward`` from ``scores`` (decision_id, reward), where there are any."""
    if scores is None:
        return rows if "reward" in rows.columns else rows.with_columns(reward=pl.lit(None))
    found = [name for name in ("decision_id", "request_id") if name in scores.columns]
    if not found or "reward" not in scores.columns:
        raise DataError(
            "scores need the columns decision_id (or request_id) and reward; they have "
            + ", ".join(scores.columns)
        )
    known = scores.select(
        pl.col(found[0]).cast(pl.String).alias("decision_id"),
        pl.col("reward").cast(pl.Float64, strict=False).alias("_score"),
    ).unique("decision_id", keep="last")
    rows = with_scores(rows, None).join(known, on="decision_id", how="left", maintain_order="left")
    return rows.with_columns(pl.coalesce("_score", "reward").alias("reward")).drop("_score")


def in_schema(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with some of the schema's columns, in its order and types; the others are null."""
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in TYPES.items()
    )
