"""POST /v1/feedback: how good an answer was; late, again, revised or taken back."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.errors import UnknownMetric
from bandit_router.rewards import posted_value
from bandit_router.store.api_keys import Scope
from bandit_router.types import Feedback
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.runtime import Runtime
from service.storable import Storable

FEEDBACK_PATH = "/v1/feedback"
MOST_TAGS = 32
LONGEST_COMMENT = 10_000


def _signal(value: object) -> object:
    # The metric decides which of these it takes, and says so better than a union could.
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError("send a number, true or false, or null to take the value back")


Value = Annotated[
    bool | int | float | None,
    PlainValidator(_signal),
    WithJsonSchema({"type": ["number", "boolean", "null"]}),
]
TagName = Annotated[Storable, Field(min_length=1, max_length=100, strict=True)]
TagText = Annotated[Storable, Field(max_length=500, strict=True)]


class FeedbackBody(BaseModel):
    """value: a number in the metric's range, true or false, or null to take it back."""

    model_config = ConfigDict(extra="forbid")

    decision_id: UUID
    metric: Annotated[str, Field(min_length=1, max_length=100, strict=True)]
    value: Value
    comment: Annotated[Storable, Field(max_length=LONGEST_COMMENT, strict=True)] | None = None
    tags: Annotated[dict[TagName, TagText], Field(max_length=MOST_TAGS)] = {}


class FeedbackDoor:
    """The door for quality signals."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def post(self, request: Request) -> Response:
        """Say how good the answer to a decision was.

        The last value per metric counts. With an Idempotency-Key the same body may be sent
        any number of times. The answer comes once the signal is durable.
        """
        runtime = self._runtime
        principal = await runtime.doorkeeper.admit(request.headers, Scope.FEEDBACK)
        body = await read_object(request, runtime.config.server)
        told = validated(FeedbackBody, body)
        now = runtime.clock.now()
        receipt = await runtime.feedback.record_feedback(
            Feedback(
                decision_id=told.decision_id,
                metric=told.metric,
                value=_value(runtime, told),
                received_at=now,
                source=principal.source,
                comment=told.comment,
                tags=told.tags,
                idempotency_key=request.headers.get("idempotency-key"),
                tenant=principal.own_tenant,
            )
        )
        runtime.metrics.judged(told.decision_id, receipt.state, now)
        return json_response(
            {
                "feedback_id": receipt.feedback_id,
                "decision_id": str(told.decision_id),
                "state": receipt.state,
                "reward": receipt.reward,
            }
        )


def feedback_routes(door: FeedbackDoor) -> APIRouter:
    """The door as a route, for its description."""
    routes = APIRouter(tags=["feedback"])
    routes.add_api_route(
        FEEDBACK_PATH,
        door.post,
        name="post_feedback",
        methods=["POST"],
        openapi_extra=body_of(FeedbackBody),
    )
    return routes


def _value(runtime: Runtime, told: FeedbackBody) -> float | None:
    declared = runtime.config.rewards
    if told.value is not None:
        return posted_value(told.metric, told.value, declared)
    if told.metric not in declared:
        raise UnknownMetric(
            f"no metric '{told.metric}'; the configuration declares: {', '.join(sorted(declared))}",
            param="metric",
        )
    return None
