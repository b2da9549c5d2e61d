"""OpenTelemetry span exports (OTLP as JSON) with GenAI attributes, as logged traffic.

One call of a model is one span with ``gen_ai.request.model``. Evaluations in span events
(``gen_ai.evaluation.result``) become rewards. Attributes ``bandit_router.decision_id``,
``.arms``, ``.pmf``, ``.propensity``, ``.model``, ``.mode`` and ``.policy``, where a span has
them, are taken as they are: the service's own spans have them all.
Source: OpenTelemetry semantic conventions for generative AI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
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
from simulations.logs.schema import ColumnType

OPERATIONS = ("chat", "text_completion", "generate_content")
OWN = ("decision_id", "arms", "pmf", "propensity")
COLUMNS: dict[str, ColumnType] = {
    "decision_id": pl.String,
    "group": pl.String,
    "model": pl.String,
    "arms": pl.List(pl.String),
    "pmf": pl.List(pl.Float64),
    "propensity": pl.Float64,
    "chosen": pl.String,
    "mode": pl.String,
    "policy": pl.String,
    "began_ns": pl.Int64,
    "ended_ns": pl.Int64,
    "operation": pl.String,
    "error": pl.String,
    "input_tokens": pl.Float64,
    "output_tokens": pl.Float64,
    "cost_usd": pl.Float64,
    "session_id": pl.String,
    "tenant": pl.String,
    "reward": pl.Float64,
}


def from_otel(
    path: Path, *, estimate_propensities: bool, scores: pl.DataFrame | None = None
) -> Imported:
    """The spans of a file that are calls of models, as decisions.

    path: one OTLP export, or one in each line as the collector's file exporter writes them; it
    is read a line at a time. Raises DataError, naming the line, for what is neither.
    """
    rows = pl.DataFrame(
        [_row(span, service) for span, service in _spans(path)], schema=COLUMNS, strict=False
    )
    if rows.height == 0:
        raise DataError(
            f"{path}: no span has gen_ai.request.model; export the spans of the calls of models"
        )
    rows = rows.with_columns(
        pl.when(pl.col("model").is_null())
        .then(pl.lit("without a model"))
        .when(pl.col("error").is_not_null())
        .then(pl.lit("failed"))
        # Of a decision's calls, not the failed ones before it.
        .when(~pl.struct("decision_id", pl.col("error").is_null()).is_first_distinct())
        .then(pl.lit("with a doubled id"))
        .when(pl.col("chosen").is_not_null() & (pl.col("chosen") != pl.col("model")))
        .then(pl.lit("answered by a fallback"))
        .when(~pl.col("operation").fill_null(OPERATIONS[0]).is_in(OPERATIONS))
        .then(pl.lit("of another operation"))
        .alias(REASON)
    )
    kept, left_out = without_reasons(rows)
    notes: tuple[str, ...] = ()
    if kept.select(pl.any_horizontal(pl.col("arms", "pmf", "propensity").is_null()).any()).item():
        kept, notes = with_estimated_pmf(
            kept.drop("arms", "pmf", "propensity"), "These spans", estimate_propensities
        )
    groups = {group: json.dumps({"request_model": group}) for group in kept["group"].unique()}
    log = with_scores(kept, scores).with_columns(
        pl.col("model").alias("chosen"),
        pl.col("model").alias("answered_by"),
        pl.col("mode").fill_null("policy"),
        pl.col("policy").fill_null("otel"),
        pl.lit("ok").alias("status"),
        pl.col("group").replace_strict(groups, return_dtype=pl.String).alias("metadata"),
        pl.from_epoch(pl.col("began_ns") // 1000, time_unit="us")
        .dt.replace_time_zone("UTC")
        .alias("created_at"),
        ((pl.col("ended_ns") - pl.col("began_ns")) / 1e9).alias("latency_s"),
    )
    return Imported(in_schema(log), rows.height, left_out, notes)


def _spans(path: Path) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """Spans with ``gen_ai.request.model``, each with its service's name."""
    for number, export in _exports(path):
        try:
            for resource in export["resourceSpans"]:
                service = _attributes(resource.get("resource", {})).get("service.name")
                for scope in resource.get("scopeSpans", ()):
                    for span in scope.get("spans", ()):
                        if "gen_ai.request.model" in _attributes(span):
                            yield span, service
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: no OTLP export ({error!r}); it should hold resourceSpans, "
                "scopeSpans and spans as the collector's file exporter writes them"
            ) from error


def _exports(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        if path.suffix.lower() == ".json":
            yield 1, orjson.loads(path.read_bytes())
            return
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, orjson.loads(line)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def _row(span: Mapping[str, Any], service: str | None) -> dict[str, Any]:
    told = _attributes(span)
    own = {name: told.get(f"bandit_router.{name}") for name in OWN}
    return {
        **own,
        "decision_id": own["decision_id"] or f"{span.get('traceId', '')}-{span.get('spanId', '')}",
        "group": told["gen_ai.request.model"],
        "model": told.get("bandit_router.model")
        or told.get("gen_ai.response.model")
        or told["gen_ai.request.model"],
        "chosen": told.get("bandit_router.chosen"),
        "mode": told.get("bandit_router.mode"),
        "policy": told.get("bandit_router.policy"),
        "began_ns": int(span["startTimeUnixNano"]),
        "ended_ns": int(span["endTimeUnixNano"]),
        "operation": told.get("gen_ai.operation.name"),
        # Status code 2 is an error; the attribute says which.
        "error": told.get("error.type")
        or ("error" if span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR") else None),
        "input_tokens": told.get("gen_ai.usage.input_tokens"),
        "output_tokens": told.get("gen_ai.usage.output_tokens"),
        "cost_usd": told.get("bandit_router.cost_usd", told.get("gen_ai.usage.cost")),
        "session_id": told.get("gen_ai.conversation.id"),
        "tenant": told.get("bandit_router.tenant", service),
        "reward": _evaluation(span),
    }


def _evaluation(span: Mapping[str, Any]) -> float | None:
    """The last evaluation's score, None where the span has none."""
    scores = [
        _attributes(event).get("gen_ai.evaluation.score.value")
        for event in span.get("events", ())
        if event.get("name") == "gen_ai.evaluation.result"
    ]
    known = [float(score) for score in scores if score is not None]
    return known[-1] if known else None


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["key"]: _value(entry["value"]) for entry in holder.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    """An OTLP AnyValue as Python has it; 64-bit integers come as text."""
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(entry) for entry in value["arrayValue"].get("values", ())]
    for kind in ("stringValue", "doubleValue", "boolValue"):
        if kind in value:
            return value[kind]
    return None
