"""The application: every door, and every error in one shape."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bandit_router import __version__
from bandit_router.errors import RouterError, StoreError
from bandit_router.types import Operation
from service.admin import admin_routes
from service.body import ClientGone, ShuttingDown, invalid_fields
from service.chat import ChatDoor
from service.dashboard import dashboard_routes
from service.errors import SHUTTING_DOWN, Refused, problem_of
from service.feedback import FEEDBACK_PATH, FeedbackDoor, feedback_routes
from service.health import health_routes
from service.hot_doors import Door, HotDoors, OnError
from service.metrics_door import metrics_routes
from service.models import model_routes
from service.openapi import describe
from service.outcomes import outcome_routes
from service.request_ids import RequestIds
from service.route import RouteDoor
from service.runtime import Runtime
from service.same_site import SameSite

# What a caller who went away would have been told; nobody reads it.
CLIENT_CLOSED = 499
log = logging.getLogger(__name__)


def create_app(runtime: Runtime) -> FastAPI:
    """The ASGI application over a runtime, which whoever made it starts and stops."""
    doors = _hot_doors(runtime)
    feedback = FeedbackDoor(runtime)
    app = FastAPI(
        title="bandit-router",
        version=__version__,
        # The documentation pages would load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Spans and metrics are this service's own; to ask for FastAPI's takes 10 us a request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Their POSTs do not come this far; what else is sent there is told so.
        routes=[Route(path, door, methods=["POST"]) for path, door in doors.items()],
        middleware=[
            *_tracing(runtime),
            Middleware(RequestIds, new_id=_request_ids(), metrics=runtime.metrics),
            Middleware(
                SameSite,
                host=runtime.config.server.host,
                keyless=not runtime.config.server.require_api_key,
            ),
            Middleware(HotDoors, doors={**doors, FEEDBACK_PATH: feedback.post}, on_error=ON_ERROR),
        ],
    )
    for routes in (
        outcome_routes(runtime),
        feedback_routes(feedback),
        model_routes(runtime),
        health_routes(runtime),
        metrics_routes(runtime),
        admin_routes(runtime),
    ):
        app.include_router(routes)
    app.router.routes.extend(dashboard_routes())
    for kind, on_error in ON_ERROR.items():
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    describe(app)
    return app


def _request_ids() -> Callable[[], str]:
    """Ids that no other process gives either; they guard nothing, so nobody need be unable to
    foretell them, and the system is asked for randomness once."""
    source = random.Random(os.urandom(32))
    return lambda: f"{source.getrandbits(128):032x}"


def _hot_doors(runtime: Runtime) -> dict[str, Door]:
    """The doors that ask a model or choose one, by path."""
    doors: dict[str, Door] = {"/v1/chat/completions": ChatDoor(runtime).complete}
    for operation in (Operation.COMPLETIONS, Operation.EMBEDDINGS, Operation.RESPONSES):
        doors[f"/v1/{operation}"] = ChatDoor(runtime, operation).complete
    doors["/v1/route"] = RouteDoor(runtime).route
    return doors


def _tracing(runtime: Runtime) -> list[Middleware]:
    if runtime.tracing is None:
        return []
    # Only here: OpenTelemetry is an extra.
    from service.tracing.requests import TracedRequests

    return [Middleware(TracedRequests, tracing=runtime.tracing)]


async def _on_router_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)
    if isinstance(error, StoreError):
        # The caller is not told where the database lies and what it said.
        log.error("%s %s: %s", request.method, request.url.path, error)
    return problem_of(error).response()


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        message = f"nothing is at {path}; the API is under /v1, /admin, /health and /metrics"
        refused = Refused(message, status=404, code="not_found")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path} does not take {request.method}; send {allowed}"
        refused = Refused(message, status=405, code="method_not_allowed", headers=error.headers)
    else:
        refused = Refused(
            str(error.detail),
            status=error.status_code,
            code="invalid_request",
            headers=error.headers,
        )
    return problem_of(refused).response()


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_of(invalid_fields(error.errors())).response()


async def _on_shutting_down(request: Request, error: Exception) -> Response:
    return SHUTTING_DOWN.response()


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


ON_ERROR: Mapping[type[Exception], OnError] = {
    RouterError: _on_router_error,
    ClientGone: _on_client_gone,
    ShuttingDown: _on_shutting_down,
}
