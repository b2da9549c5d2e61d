"""The schema of logged traffic: one row per decision. ``docs/log-schema.md`` says it in prose."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class LoggedDecision(BaseModel):
    """One decision with what came of it. A field that may be null may also be left out."""

    model_config = ConfigDict(extra="ignore")

    decision_id: Annotated[str, Field(description="Unique; a row that repeats one is dropped.")]
    arms: Annotated[list[str], Field(description="Models that existed, in the order of pmf.")]
    pmf: Annotated[
        list[Probability],
        Field(description="Probability of each arm; 0 where it was not eligible. Sums to 1."),
    ]
    chosen: Annotated[str, Field(description="The model that was drawn: one of arms.")]
    propensity: Annotated[
        Probability, Field(description="The entry of pmf that belongs to chosen; above 0.")
    ]
    created_at: Annotated[
        datetime | None, Field(description="When it was decided; orders the log, with time zone.")
    ] = None
    mode: Annotated[
        str, Field(description="policy, override, sticky or rule; only policy is evaluated on.")
    ] = "policy"
    tenant: Annotated[str | None, Field(description="Whose request it was.")] = None
    session_id: Annotated[str | None, Field(description="Which conversation.")] = None
    eligible: Annotated[
        list[bool] | None,
        Field(description="Which arms constraints left; by default those of pmf above 0."),
    ] = None
    features: Annotated[
        list[float] | None,
        Field(description="Numbers known of the request, always as many, all finite."),
    ] = None
    extractor_version: Annotated[str | None, Field(description="What made the features.")] = None
    policy: Annotated[str | None, Field(description="Which policy decided.")] = None
    snapshot_version: Annotated[int | None, Field(description="On which state.")] = None
    price_of_dollar: Annotated[
        NotNegative | None, Field(description="λ then, quality per dollar.")
    ] = None
    predicted_quality: Annotated[
        list[float] | None, Field(description="Per arm, as predicted then.")
    ] = None
    predicted_cost_usd: Annotated[
        list[float] | None, Field(description="Per arm, dollars, as predicted then.")
    ] = None
    predicted_latency_s: Annotated[
        list[float] | None, Field(description="Per arm, seconds, as predicted then.")
    ] = None
    metadata: Annotated[
        str | None, Field(description="A JSON object of strings; its keys can be segments.")
    ] = None
    answered_by: Annotated[
        str | None, Field(description="The model that answered; another one after a fallback.")
    ] = None
    status: Annotated[str | None, Field(description="How the chain ended; ok if well.")] = None
    reward: Annotated[
        Probability | None, Field(description="What feedback came to; null where none came.")
    ] = None
    cost_usd: Annotated[
        NotNegative | None, Field(description="Dollars that the whole chain took.")
    ] = None
    latency_s: Annotated[
        NotNegative | None, Field(description="Seconds of the attempt that answered.")
    ] = None
    input_tokens: Annotated[NotNegative | None, Field(description="Of the request.")] = None
    output_tokens: Annotated[NotNegative | None, Field(description="Of the answer.")] = None


ColumnType: TypeAlias = pl.DataType | type[pl.DataType]

TYPES: dict[str, ColumnType] = {
    "decision_id": pl.String,
    "arms": pl.List(pl.String),
    "pmf": pl.List(pl.Float64),
    "chosen": pl.String,
    "propensity": pl.Float64,
    "created_at": pl.Datetime("us", "UTC"),
    "mode": pl.String,
    "tenant": pl.String,
    "session_id": pl.String,
    "eligible": pl.List(pl.Boolean),
    "features": pl.List(pl.Float32),
    "extractor_version": pl.String,
    "policy": pl.String,
    "snapshot_version": pl.Int64,
    "price_of_dollar": pl.Float64,
    "predicted_quality": pl.List(pl.Float64),
    "predicted_cost_usd": pl.List(pl.Float64),
    "predicted_latency_s": pl.List(pl.Float64),
    "metadata": pl.String,
    "answered_by": pl.String,
    "status": pl.String,
    "reward": pl.Float64,
    "cost_usd": pl.Float64,
    "latency_s": pl.Float64,
    "input_tokens": pl.Float64,
    "output_tokens": pl.Float64,
}
REQUIRED = tuple(name for name, field in LoggedDecision.model_fields.items() if field.is_required())


def markdown_table() -> str:
    """The schema as the table that the documentation carries; a test holds the two together."""
    lines = ["| column | type | needed | what |", "|---|---|---|---|"]
    for name, field in LoggedDecision.model_fields.items():
        needed = "yes" if field.is_required() else ""
        lines.append(f"| `{name}` | {type_name(TYPES[name])} | {needed} | {field.description} |")
    return "\n".join(lines)


def type_name(kind: Any) -> str:
    """A column's type in words."""
    if isinstance(kind, pl.List):
        return f"list of {type_name(kind.inner)}"
    names = {
        pl.String: "text",
        pl.Boolean: "boolean",
        pl.Float64: "number",
        pl.Float32: "number",
        pl.Int64: "whole number",
    }
    return "timestamp" if isinstance(kind, pl.Datetime) else names[kind]
