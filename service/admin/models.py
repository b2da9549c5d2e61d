"""/admin/models: every model, how it fares, and the levers that add, pause and retire."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.config import ModelConfig, ProviderKind
from bandit_router.eligibility import check_known
from bandit_router.errors import InvalidRequest
from bandit_router.overlay import MODEL, ModelSetting, ModelState, setting_of
from service.admin.acts import act, live_change
from service.admin.entrance import operator_doors
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.errors import Refused
from service.runtime import Runtime

KEY_VARIABLE = re.compile(r"_API_KEY$")


def model_routes(runtime: Runtime) -> APIRouter:
    """The doors to models."""
    routes = operator_doors(runtime, "models")

    @routes.get("/models")
    async def models() -> Response:
        """Every model: how it is configured, its breakers and why they are open, how reliable."""
        return json_response({"models": [_shown_model(runtime, name) for name in runtime.models]})

    @routes.post("/models", status_code=201, openapi_extra=body_of(ModelConfig))
    async def add(request: Request) -> Response:
        """Add a model, or bring a retired one back. It starts from what a `successor_of` is
        known to do, else from the prior; what is known of the others stays as it is."""
        body = await read_object(request, runtime.config.server)
        model = validated(ModelConfig, body)
        _check_addable(runtime, model)
        detail = model.model_dump(mode="json")
        async with act(runtime, request, "models.add", model.name, detail):
            await _set(runtime, request, model.name, ModelState.ACTIVE, model)
        return json_response(_shown_model(runtime, model.name), 201)

    @routes.post("/models/{name:path}/pause")
    async def pause(request: Request, name: str) -> Response:
        """Choose it no more; a caller may still name it, and what is known of it stays."""
        async with act(runtime, request, "models.pause", name):
            await _set(runtime, request, name, ModelState.PAUSED)
        return json_response(_shown_model(runtime, name))

    @routes.post("/models/{name:path}/resume")
    async def resume(request: Request, name: str) -> Response:
        """Let it be chosen again."""
        async with act(runtime, request, "models.resume", name):
            await _set(runtime, request, name, ModelState.ACTIVE)
        return json_response(_shown_model(runtime, name))

    @routes.post("/models/{name:path}/retire")
    async def retire(request: Request, name: str) -> Response:
        """Take it out. Requests under way finish on it; its rows stay in the log."""
        async with act(runtime, request, "models.retire", name):
            await _set(runtime, request, name, ModelState.RETIRED)
        return json_response({"name": name, "retired": True})

    return routes


async def _set(
    runtime: Runtime,
    request: Request,
    name: str,
    state: ModelState,
    config: ModelConfig | None = None,
) -> None:
    if config is None:
        check_known((name,), runtime.config.models, param="name")
        known = runtime.live.overlay.models.get(name)
        config = known.config if known else None
    await live_change(runtime, request, {MODEL + name: setting_of(ModelSetting(state, config))})


def _check_addable(runtime: Runtime, model: ModelConfig) -> None:
    """Over the network only what the network should reach: no files, no odd secrets."""
    if model.name in runtime.models:
        raise Refused(
            f"there is a model '{model.name}' already; retire it first, or take another name",
            status=409,
            code="model_exists",
            param="name",
        )
    if model.provider is not ProviderKind.OPENAI_COMPATIBLE:
        raise InvalidRequest(
            f"provider '{model.provider.value}' reads files of this machine: declare such a model "
            "in the TOML file and POST /admin/reload",
            param="provider",
        )
    secret = model.api_key_env
    if secret is not None and not KEY_VARIABLE.search(secret):
        raise InvalidRequest(
            f"api_key_env '{secret}' would send a variable that does not look like a model's key: "
            "its name must end with _API_KEY, or be declared in the TOML file",
            param="api_key_env",
        )


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
        "rate_limit": runtime.limits.left(name),
    }
