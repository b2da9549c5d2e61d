"""GET /health/live and /health/ready: for whoever restarts the process or sends it traffic."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from sqlalchemy import text
from starlette.responses import Response

from bandit_router.errors import StoreError
from bandit_router.store.engine import store_errors
from service.answers import json_response
from service.runtime import Runtime

PATIENCE_S = 2.0


def health_routes(runtime: Runtime) -> APIRouter:
    """The doors for probes; they ask for no key and tell no secret."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health/live")
    @routes.get("/health/liveliness", include_in_schema=False)
    async def live() -> Response:
        """200 as long as the process serves at all."""
        return json_response({"status": "live"})

    @routes.get("/health/ready")
    @routes.get("/health/readiness", include_in_schema=False)
    async def ready() -> Response:
        """200 when requests can be routed and stored, else 503 and what is missing."""
        missing = await _missing(runtime)
        body = {
            "status": "not ready" if missing else "ready",
            "missing": missing,
            "snapshot_version": runtime.router.serving.version,
            "learner": runtime.learner_standing.role,
            "queued": {
                "decisions": runtime.decision_log.queue_depth,
                "feedback": runtime.feedback.queue_depth,
            },
        }
        return json_response(body, 503 if missing else 200)

    return routes


async def _missing(runtime: Runtime) -> list[str]:
    try:
        with store_errors(runtime.engine):
            async with asyncio.timeout(PATIENCE_S), runtime.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
    except StoreError:
        # Strangers may ask for health: where the database lies is for the log.
        return ["the database does not answer"]
    return []
