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
        """Every model: how it is configured, whether it cools down and why, how reliable."""
        return json_response({"models": [_shown_model(runtime, name) for name in runtime.models]})

    return routes


def _shown_model(runtime: Runtime, name: str) -> dict[str, Any]:
    model = runtime.models[name]
    cooling = runtime.cooldowns.cooling(name)
    cooldown = None
    if cooling is not None:
        cooldown = {
            "reason": cooling.reason,
            "for_s": cooling.until_monotonic_s - runtime.clock.monotonic_s(),
            "consecutive_fails": cooling.consecutive_fails,
        }
    return {
        **model.model_dump(mode="json"),
        "cooldown": cooldown,
        "reliability": runtime.cooldowns.reliability(name),
    }
