"""POST /v1/route: the decision alone, for those who call the model themselves."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bandit_router.errors import InvalidRequest
from bandit_router.store.api_keys import Scope
from bandit_router.types import Decision
from service.answers import json_response
from service.asking import asked
from service.body import read_object
from service.decision_headers import decision_headers
from service.runtime import Runtime


class RouteDoor:
    """Decides, stores the decision, and tells everything that went into it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def route(self, request: Request) -> Response:
        """One decision; the body is that of a chat request."""
        runtime = self._runtime
        principal = await runtime.doorkeeper.admit(request.headers, Scope.ROUTE)
        body = await read_object(request, runtime.config.server)
        chat = asked(runtime, request, principal, body)
        if chat.wishes.cascade is not None:
            raise InvalidRequest(
                "a cascade looks at answers, and this door gives none: send the request to "
                "/v1/chat/completions, or leave cascade out",
                param="cascade",
            )
        admitted = await runtime.admitted(principal, chat.routing)
        decision = admitted.decision
        await runtime.books.enter(decision)
        response = json_response(shown_decision(decision))
        response.headers.update({**decision_headers(decision), **admitted.headers})
        return response


def shown_decision(decision: Decision) -> dict[str, Any]:
    """A decision as callers see it: per-model values by the model's name."""
    arms, expected = decision.arms, decision.prediction

    def by_model(values: Any) -> dict[str, Any]:
        return dict(zip(arms, values.tolist(), strict=True))

    first_token = {}
    if expected.first_token_s is not None:
        first_token = {"first_token_s": by_model(expected.first_token_s)}
    return {
        "decision_id": str(decision.id),
        "created_at": decision.created_at,
        "operation": decision.operation.value,
        "mode": decision.mode.value,
        "model": decision.chosen,
        "fallbacks": decision.fallbacks,
        "propensity": decision.propensity,
        "pmf": by_model(decision.pmf),
        "eligible": [arm for arm, fit in zip(arms, decision.eligible, strict=True) if fit],
        "masked": dict(decision.masked),
        "predicted": {
            "quality": by_model(expected.quality),
            "quality_sd": by_model(expected.quality_sd),
            "cost_usd": by_model(expected.cost_usd),
            "latency_s": by_model(expected.latency_s),
            **first_token,
        },
        "input_tokens": decision.input_tokens,
        "policy": decision.policy,
        "snapshot_version": decision.snapshot_version,
        "price_of_dollar": decision.price_of_dollar,
        "price_of_second": decision.price_of_second,
        "influences": dict(decision.influences),
    }
