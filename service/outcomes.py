"""POST /v1/outcomes: how it went, told by those who called the model themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.config import ModelConfig
from bandit_router.errors import InvalidRequest, UnknownModel
from bandit_router.prices import cost_of
from bandit_router.protocols import Usage
from bandit_router.store.api_keys import Scope
from bandit_router.store.decision_log import unknown_decision
from bandit_router.types import Attempt, AttemptStatus, Outcome
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.errors import Refused
from service.runtime import Runtime

MOST_TOKENS = 2**31 - 1
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS, strict=True)]
Amount = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]


class OutcomeBody(BaseModel):
    """model: the one that answered, or was tried last. cost_usd: by list prices if left out.
    first_token_s: of a stream."""

    model_config = ConfigDict(extra="forbid")

    decision_id: UUID
    model: Annotated[str, Field(strict=True)]
    status: Literal["ok", "failed"] = "ok"
    latency_s: Annotated[Amount, Field(gt=0, le=86_400)]
    first_token_s: Annotated[Amount, Field(gt=0, le=86_400)] | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cost_usd: Annotated[Amount, Field(le=1e6)] | None = None


def outcome_routes(runtime: Runtime) -> APIRouter:
    """The door for outcomes."""
    routes = APIRouter(tags=["routing"])

    @routes.post("/v1/outcomes", openapi_extra=body_of(OutcomeBody))
    async def post_outcome(request: Request) -> Response:
        """Tell how a decision of /v1/route went, once; the same again is fine."""
        principal = await runtime.doorkeeper.admit(request.headers, Scope.ROUTE)
        body = await read_object(request, runtime.config.server)
        told = validated(OutcomeBody, body)
        detail = await runtime.inspection.decision_detail(told.decision_id)
        if detail is None or principal.own_tenant not in (None, detail.decision.tenant):
            raise unknown_decision(told.decision_id)
        model = _model(runtime, told, detail.decision.arms)
        outcome, attempt = _as_rows(told, model, runtime.clock.now())
        await runtime.decision_log.record_outcome(outcome, [attempt])
        runtime.admission.close(outcome, [attempt])
        # Of two outcomes the first stands: what is stored now tells whether this is it.
        stored = await runtime.inspection.decision_detail(told.decision_id)
        if detail.outcome is None and stored is not None and stored.outcome == outcome:
            runtime.metrics.ended(outcome, [attempt])
        if stored is None or stored.outcome is None or _facts(stored.outcome) != _facts(outcome):
            raise Refused(
                f"decision {told.decision_id} has another outcome already, and the first one "
                "stands; outcomes of /v1/chat/completions are recorded by the router itself",
                status=409,
                code="outcome_conflict",
                param="decision_id",
            )
        return json_response(
            {
                "decision_id": str(told.decision_id),
                "answered_by": stored.outcome.answered_by,
                "status": stored.outcome.status.value,
                "cost_usd": stored.outcome.cost_usd,
            }
        )

    return routes


def _model(runtime: Runtime, told: OutcomeBody, arms: tuple[str, ...]) -> ModelConfig:
    model = runtime.models.get(told.model)
    if model is None or told.model not in arms:
        raise UnknownModel(
            f"no model '{told.model}' in this decision; it chose among {', '.join(arms)}",
            param="model",
        )
    return model


def _as_rows(told: OutcomeBody, model: ModelConfig, now: datetime) -> tuple[Outcome, Attempt]:
    usage = Usage(told.input_tokens, told.output_tokens)
    cost_usd = told.cost_usd
    if cost_usd is None:
        cost_usd = cost_of(model, usage, told.latency_s)
    if cost_usd is None and told.status == "ok":
        raise InvalidRequest(
            f"the cost of '{model.name}' depends on tokens; send input_tokens and output_tokens, "
            "or cost_usd",
            param="cost_usd",
        )
    status = AttemptStatus.OK if told.status == "ok" else AttemptStatus.SERVER_ERROR
    outcome = Outcome(
        decision_id=told.decision_id,
        answered_by=told.model if status is AttemptStatus.OK else None,
        status=status,
        finished_at=now,
        latency_s=told.latency_s,
        attempts=1,
        first_token_s=told.first_token_s,
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cost_usd=cost_usd,
    )
    attempt = Attempt(
        decision_id=told.decision_id,
        position=0,
        model=told.model,
        status=status,
        started_at=now,
        latency_s=told.latency_s,
        first_token_s=told.first_token_s,
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cost_usd=cost_usd,
        error=None if status is AttemptStatus.OK else "reported by the caller",
    )
    return outcome, attempt


def _facts(outcome: Outcome) -> tuple[object, ...]:
    """What must agree for two outcomes to be one told twice."""
    return (
        outcome.answered_by,
        outcome.status,
        outcome.latency_s,
        outcome.first_token_s,
        outcome.attempts,
        outcome.input_tokens,
        outcome.output_tokens,
        outcome.cost_usd,
    )
