"""GET /admin/snapshots: the stored states of what was learned."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from service.admin.entrance import operator_doors
from service.answers import json_response
from service.runtime import Runtime


def snapshot_routes(runtime: Runtime) -> APIRouter:
    """The doors to snapshots."""
    routes = operator_doors(runtime, "snapshots")

    @routes.get("/snapshots")
    async def snapshots(
        policy: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Snapshots without their payload, newest first."""
        return json_response({"snapshots": await runtime.inspection.snapshots(policy, limit=limit)})

    return routes
