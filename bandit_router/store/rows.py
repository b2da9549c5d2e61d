"""Between the vocabulary's classes and the columns of the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bandit_router.types import (
    Attempt,
    AttemptStatus,
    BoolArray,
    Decision,
    Exploration,
    FeatureArray,
    FloatArray,
    MaskReason,
    Mode,
    Operation,
    Outcome,
    Prediction,
    Trial,
)

# What SQLAlchemy calls RowMapping, whose keys are typed as columns or names.
Row = Mapping[Any, Any]


def storable(value: Any) -> Any:
    """A JSON value as Postgres takes it: no NUL, no lone surrogate, no NaN or infinity.

    Prompts and labels come from outside; an odd character must not cost the decision.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(name)): storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value


def pack_features(features: FeatureArray) -> bytes:
    """(n,) features as little-endian float32."""
    return np.asarray(features, dtype="<f4").tobytes()


def unpack_features(packed: bytes) -> FeatureArray:
    """The (n,) float32 features as stored, read-only."""
    return np.frombuffer(packed, dtype="<f4").astype(np.float32, copy=False)


def decision_row(decision: Decision) -> dict[str, Any]:
    """The columns of one decision; ``seq`` is the database's to give."""
    expected, explored = decision.prediction, decision.exploration
    return {
        "id": decision.id,
        "created_at": decision.created_at,
        "tenant": storable(decision.tenant),
        "session_id": storable(decision.session_id),
        "mode": decision.mode.value,
        "arms": list(decision.arms),
        "eligible": _listed(decision.eligible),
        "masked": {arm: reason.value for arm, reason in decision.masked.items()},
        "pmf": _listed(decision.pmf),
        "chosen": decision.chosen,
        "propensity": float(decision.propensity),
        "fallbacks": list(decision.fallbacks),
        "features": pack_features(decision.features),
        "extractor_version": decision.extractor_version,
        "input_tokens": decision.input_tokens,
        "policy": decision.policy,
        "snapshot_version": decision.snapshot_version,
        "price_of_dollar": float(decision.price_of_dollar),
        "price_of_second": float(decision.price_of_second),
        "exploration_floor": _listed(explored.floor),
        "look_arm": explored.look_arm,
        "look_probability": float(explored.look_probability),
        "predicted_quality": _listed(expected.quality),
        "predicted_quality_sd": _listed(expected.quality_sd),
        "predicted_cost_usd": _listed(expected.cost_usd),
        "predicted_latency_s": _listed(expected.latency_s),
        "metadata": storable(decision.metadata),
        "prompt": storable(decision.prompt),
        "influences": storable(decision.influences),
        "trial": None if decision.trial is None else _trial_row(decision.trial),
        "operation": decision.operation.value,
        "predicted_first_token_s": None
        if expected.first_token_s is None
        else _listed(expected.first_token_s),
    }


def decision_from_row(row: Row) -> Decision:
    """The decision as it was recorded; its arrays are read-only."""
    return Decision(
        id=row["id"],
        created_at=row["created_at"],
        tenant=row["tenant"],
        session_id=row["session_id"],
        mode=Mode(row["mode"]),
        arms=tuple(row["arms"]),
        eligible=frozen_bools(row["eligible"]),
        masked={arm: MaskReason(reason) for arm, reason in row["masked"].items()},
        pmf=frozen_floats(row["pmf"]),
        chosen=row["chosen"],
        propensity=row["propensity"],
        fallbacks=tuple(row["fallbacks"]),
        features=unpack_features(row["features"]),
        extractor_version=row["extractor_version"],
        input_tokens=row["input_tokens"],
        policy=row["policy"],
        snapshot_version=row["snapshot_version"],
        price_of_dollar=row["price_of_dollar"],
        price_of_second=row["price_of_second"],
        exploration=Exploration(
            floor=frozen_floats(row["exploration_floor"]),
            look_arm=row["look_arm"],
            look_probability=row["look_probability"],
        ),
        prediction=Prediction(
            quality=frozen_floats(row["predicted_quality"]),
            quality_sd=frozen_floats(row["predicted_quality_sd"]),
            cost_usd=frozen_floats(row["predicted_cost_usd"]),
            latency_s=frozen_floats(row["predicted_latency_s"]),
            first_token_s=None
            if row["predicted_first_token_s"] is None
            else frozen_floats(row["predicted_first_token_s"]),
        ),
        metadata=row["metadata"],
        prompt=row["prompt"],
        influences=row["influences"],
        trial=None if row["trial"] is None else trial_from_row(row["trial"], row["pmf"]),
        operation=Operation(row["operation"]),
    )


def _trial_row(trial: Trial) -> dict[str, Any]:
    """Without the champion's pmf in shadow, which is the decision's own."""
    row = {
        "challenger": trial.challenger,
        "snapshot_version": trial.snapshot_version,
        "share": float(trial.share),
        "pmf": _listed(trial.pmf),
    }
    if trial.share:
        row |= {"champion_pmf": _listed(trial.champion_pmf), "drew": bool(trial.drew)}
    return row


def trial_from_row(row: Mapping[str, Any], pmf: list[float]) -> Trial:
    """A trial as it was recorded. pmf: the decision's."""
    return Trial(
        challenger=row["challenger"],
        snapshot_version=int(row["snapshot_version"]),
        share=float(row["share"]),
        pmf=frozen_floats(row["pmf"]),
        champion_pmf=frozen_floats(row.get("champion_pmf", pmf)),
        drew=bool(row.get("drew", False)),
    )


OUTCOME_FIELDS = (
    "decision_id",
    "answered_by",
    "status",
    "finished_at",
    "latency_s",
    "attempts",
    "first_token_s",
    "input_tokens",
    "output_tokens",
    "cost_usd",
)
ATTEMPT_FIELDS = (
    "decision_id",
    "position",
    "model",
    "status",
    "started_at",
    "latency_s",
    "first_token_s",
    "http_status",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "error",
)


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The columns of one outcome."""
    row = {name: getattr(outcome, name) for name in OUTCOME_FIELDS}
    return {**row, "status": outcome.status.value}


def outcome_from_row(row: Row) -> Outcome:
    """The outcome as it was recorded."""
    values = {name: row[name] for name in OUTCOME_FIELDS}
    return Outcome(**{**values, "status": AttemptStatus(row["status"])})


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """The columns of one attempt."""
    row = {name: getattr(attempt, name) for name in ATTEMPT_FIELDS}
    return {**row, "status": attempt.status.value, "error": storable(attempt.error)}


def attempt_from_row(row: Row) -> Attempt:
    """The attempt as it was recorded."""
    values = {name: row[name] for name in ATTEMPT_FIELDS}
    return Attempt(**{**values, "status": AttemptStatus(row["status"])})


def _listed(values: ArrayLike) -> list[Any]:
    listed: list[Any] = np.asarray(values).tolist()
    return listed


def frozen_floats(values: list[float]) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def frozen_bools(values: list[bool]) -> BoolArray:
    array = np.asarray(values, dtype=np.bool_)
    array.setflags(write=False)
    return array
