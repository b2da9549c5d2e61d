"""Our errors as HTTP: a status, and a body in the shape that OpenAI's clients read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response

from bandit_router import errors
from bandit_router.types import AttemptStatus, MaskReason
from service.limit_headers import limit_headers

INVALID = "invalid_request_error"
RETRY_AFTER_STORE_S = 2
STORE_AWAY = "the database cannot be reached just now; send the request again in a moment"
STORE_REFUSED = "the database refused this; the router's log says why"
RETRY_AFTER_RATE_LIMIT_S = 10

# The first class in an error's ancestry that stands here decides: status, type, code.
TREATMENTS: Mapping[type[Exception], tuple[int, str, str]] = {
    errors.UnknownModel: (404, INVALID, "model_not_found"),
    errors.UnknownDecision: (404, INVALID, "decision_not_found"),
    errors.UnknownMetric: (422, INVALID, "unknown_metric"),
    errors.InvalidFeedback: (422, INVALID, "invalid_feedback"),
    errors.IdempotencyConflict: (409, INVALID, "idempotency_conflict"),
    errors.InvalidRequest: (422, INVALID, "invalid_request"),
    errors.LimitExceeded: (429, "rate_limit_error", "rate_limit_exceeded"),
    errors.NoEligibleModel: (400, INVALID, "no_eligible_model"),
    errors.DeadlineExceeded: (504, "timeout_error", "deadline_exceeded"),
    errors.CostLimitReached: (402, "budget_exceeded", "budget_exceeded"),
    errors.AllModelsFailed: (502, "upstream_error", "all_models_failed"),
    errors.StoreUnavailable: (503, "service_unavailable", "store_unavailable"),
    errors.StoreError: (500, "server_error", "store_error"),
    errors.RouterError: (500, "server_error", "internal_error"),
}


# What no model takes, whichever is asked: the caller's to mend.
REQUEST_AT_FAULT = {
    AttemptStatus.CONTEXT_WINDOW: "context_length_exceeded",
    AttemptStatus.CONTENT_FILTER: "content_filter",
}


class Refused(errors.InvalidRequest):
    """A request that HTTP itself has a status for: too large, without a key, no such page."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        kind: str = INVALID,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code
        self.kind = kind
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it leaves the service. body: an upstream's own, handed on as it came."""

    status: int
    kind: str
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def event(self) -> bytes:
        """The error object as JSON, for a body or for an event of a stream."""
        return self.body or orjson.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The whole answer; headers are added to the problem's own."""
        return Response(
            self.event(),
            status_code=self.status,
            headers={**self.headers, **(headers or {})},
            media_type="application/json",
        )


# The client libraries send such a request again, to a replica that stays.
SHUTTING_DOWN = Problem(
    503,
    "service_unavailable",
    "shutting_down",
    "the router is being stopped, and the answer did not end in time; send the request again",
    headers={"retry-after": "1"},
)


def problem_of(error: errors.RouterError) -> Problem:
    """What an error of our tree becomes."""
    if isinstance(error, Refused):
        return Problem(error.status, error.kind, error.code, str(error), error.param, error.headers)
    if isinstance(error, errors.ProviderError):
        return _handed_on(error)
    status, kind, code = next(TREATMENTS[c] for c in type(error).__mro__ if c in TREATMENTS)
    headers: dict[str, str] = {}
    message = str(error)
    if isinstance(error, errors.StoreUnavailable):
        headers["retry-after"], message = str(RETRY_AFTER_STORE_S), STORE_AWAY
    elif isinstance(error, errors.StoreError):
        message = STORE_REFUSED
    elif isinstance(error, errors.LimitExceeded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
        headers |= limit_headers(error.headroom)
        if error.what == "usd":
            # No client should try this again by itself, as they do after a 429.
            status, kind, code = 402, "insufficient_quota", "budget_exceeded"
    elif isinstance(error, errors.NoEligibleModel) and _too_long(error):
        code = "context_length_exceeded"
    elif isinstance(error, errors.AllModelsFailed) and status == 502:
        statuses = {attempt.status for attempt in error.attempts}
        if statuses and statuses <= {AttemptStatus.RATE_LIMITED, AttemptStatus.HELD_BACK}:
            status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"
            headers["retry-after"] = str(_retry_after_s(error))
        elif len(statuses) == 1 and statuses <= REQUEST_AT_FAULT.keys():
            # Every model said the same of the request: that is an answer, not an outage.
            status, kind, code = 400, INVALID, REQUEST_AT_FAULT[statuses.pop()]
    param = error.param if isinstance(error, errors.InvalidRequest) else None
    return Problem(status, kind, code, message, param, headers)


def internal_problem(request_id: str) -> Problem:
    """What the caller is told of a bug; the log has the rest under the same id."""
    return Problem(
        500,
        "server_error",
        "internal_error",
        f"the router failed; its log says why under request id {request_id}",
    )


def stream_problem(error: errors.ProviderError) -> Problem:
    """A model that broke off after its first byte; only the stream itself can say so."""
    return Problem(502, "upstream_error", error.status.value, str(error))


def _handed_on(error: errors.ProviderError) -> Problem:
    """The upstream's own words where the caller is at fault, in our shape if not in OpenAI's."""
    status = error.http_status if error.http_status in range(400, 500) else 400
    return Problem(
        status or 400, INVALID, error.status.value, str(error), body=_openai_error(error.body)
    )


def _openai_error(body: bytes | None) -> bytes | None:
    try:
        parsed: Any = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    shaped = isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)
    return body if shaped and isinstance(parsed["error"].get("message"), str) else None


def _too_long(error: errors.NoEligibleModel) -> bool:
    reasons = set(error.masked.values()) - {MaskReason.LAST_RESORT}
    return reasons == {MaskReason.CONTEXT_WINDOW}


def _retry_after_s(error: errors.AllModelsFailed) -> int:
    hint_s = getattr(error.__cause__, "retry_after_s", None)
    return max(1, math.ceil(RETRY_AFTER_RATE_LIMIT_S if hint_s is None else hint_s))
