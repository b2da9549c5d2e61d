"""POST /admin/reload, /admin/exploration/…, PUT /admin/budget: the levers of the whole router."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.config_base import Dollars
from bandit_router.overlay import BUDGET, FROZEN
from service.admin.acts import act, live_change
from service.admin.beliefs import shown_budget
from service.admin.entrance import operator_doors
from service.answers import json_response
from service.audited import refused_config
from service.body import read_object, validated
from service.documented import body_of
from service.runtime import Runtime


class NewBudget(BaseModel):
    """Mean dollars per request to hold; null: dollars do not count."""

    model_config = ConfigDict(extra="forbid")

    usd_per_request: Annotated[Dollars, Field(gt=0)] | None


def control_routes(runtime: Runtime) -> APIRouter:
    """The doors to what can be changed while the router runs."""
    routes = operator_doors(runtime, "control")

    @routes.post("/reload")
    async def reload(request: Request) -> Response:
        """Read the file again: validated first, swapped in whole, and nothing where it is at
        fault. The other replicas read theirs."""
        async with act(runtime, request, "reload", "configuration"):
            with refused_config():
                changed = await runtime.live.reload()
            await runtime.live_settings.tell_to_reread()
        return json_response({"changed": changed})

    @routes.get("/live")
    async def live() -> Response:
        """What operators set over the file, and why the last change was not taken up, if so."""
        overlay = runtime.live.overlay
        return json_response(
            {
                "frozen": overlay.frozen,
                "budget_usd_per_request": overlay.budget_usd,
                "budget_set": overlay.budget_set,
                "models": {name: s.state.value for name, s in sorted(overlay.models.items())},
                "error": runtime.live.last_error,
            }
        )

    @routes.post("/exploration/freeze")
    async def freeze(request: Request) -> Response:
        """Choose what looks best from now on, and try nothing. Learning from feedback goes on."""
        async with act(runtime, request, "exploration.freeze", "exploration"):
            await live_change(runtime, request, {FROZEN: True})
        return json_response({"frozen": True})

    @routes.post("/exploration/unfreeze")
    async def unfreeze(request: Request) -> Response:
        """Let the policy explore again."""
        async with act(runtime, request, "exploration.unfreeze", "exploration"):
            await live_change(runtime, request, {FROZEN: False})
        return json_response({"frozen": False})

    @routes.put("/budget", openapi_extra=body_of(NewBudget))
    async def set_budget(request: Request) -> Response:
        """Hold another budget, in place of the file's."""
        asked = validated(NewBudget, await read_object(request, runtime.config.server))
        detail = {"usd_per_request": asked.usd_per_request, "before": runtime.problem.budget_usd}
        async with act(runtime, request, "budget.set", "budget", detail):
            await live_change(runtime, request, {BUDGET: asked.usd_per_request})
        return json_response(await shown_budget(runtime))

    @routes.delete("/budget")
    async def reset_budget(request: Request) -> Response:
        """Go back to the file's budget."""
        async with act(runtime, request, "budget.reset", "budget"):
            await runtime.live_settings.forget(BUDGET)
            await runtime.live.refresh()
        return json_response(await shown_budget(runtime))

    return routes
