"""GET /admin/alarms: what an operator should know of now."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from service.admin.entrance import operator_doors
from service.answers import json_response
from service.runtime import Runtime


def alarm_routes(runtime: Runtime) -> APIRouter:
    """The door to alarms."""
    routes = operator_doors(runtime, "alarms")

    @routes.get("/alarms")
    async def alarms() -> Response:
        """What stands now, as this process sees it: open breakers, a budget in debt, feedback
        that is not learned from, a change that was not taken up."""
        return json_response({"alarms": await runtime.alarms.look()})

    return routes
