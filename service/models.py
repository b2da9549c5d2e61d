"""GET /v1/models: what may stand as ``model`` in a request."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.eligibility import check_known
from bandit_router.store.api_keys import Scope
from service.answers import json_response
from service.chat_request import AUTO
from service.runtime import Runtime

OWNER = "bandit-router"


def model_routes(runtime: Runtime) -> APIRouter:
    """The door that OpenAI clients ask for a list of models."""
    routes = APIRouter(tags=["models"])
    started = int(runtime.clock.now().timestamp())

    def shown(name: str) -> dict[str, Any]:
        owner = OWNER if name == AUTO else runtime.models[name].provider.value
        return {"id": name, "object": "model", "created": started, "owned_by": owner}

    @routes.get("/v1/models")
    async def list_models(request: Request) -> Response:
        """Every configured model, and "auto", which lets the router choose."""
        await runtime.doorkeeper.admit(request.headers, Scope.ROUTE)
        names = [AUTO, *runtime.models]
        return json_response({"object": "list", "data": [shown(name) for name in names]})

    @routes.get("/v1/models/{name:path}")
    async def one_model(request: Request, name: str) -> Response:
        """One model."""
        await runtime.doorkeeper.admit(request.headers, Scope.ROUTE)
        if name != AUTO:
            check_known((name,), runtime.config.models, param="model")
        return json_response(shown(name))

    return routes
