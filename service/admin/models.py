"""GET /admin/models: every model, how it is configured and how it fares."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.admin.entrance import operator_doors
from service.answers import json_response
from service.runtime import Runtime


def model_routes(runtime: Runtime) -> APIRouter:
    """The doors to models."""
    routes = operator_doors(runtime, "models")

    @routes.get("/models")
    async def models() -> Response:
        """Every model: how it is configured, its breakers and why they are open, how reliable."""
        return json_response({"models": [_shown_model(runtime, name) for name in runtime.models]})

    return routes


def _shown_model(runtime: Runtime, name: str) -> dict[str, Any]:
    health = runtime.breakers.health(name)
    return {
        **runtime.models[name].model_dump(mode="json"),
        "breaker": {
            "state": health.state,
            "reason": health.reason,
            "model": health.model,
            "key": health.key,
        },
        "reliability": health.reliability,
    }
