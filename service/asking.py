"""From an HTTP request to a checked chat request: what every door that routes begins with."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from bandit_router.store.api_keys import Principal
from bandit_router.types import Operation
from service.chat_request import ChatRequest
from service.operations import parse_request
from service.runtime import Runtime
from service.sessions import session_id_of
from service.wishes import read_wishes


def asked(
    runtime: Runtime,
    request: Request,
    principal: Principal,
    body: dict[str, Any],
    operation: Operation = Operation.CHAT,
) -> ChatRequest:
    """The request for an operation in a body and its headers. Raises InvalidRequest."""
    wishes = read_wishes(request.headers, body)
    explicit = wishes.session_id or request.headers.get("x-session-id")
    return parse_request(
        operation,
        body,
        session_id=session_id_of(runtime.config.sessions, explicit, body),
        tenant=principal.tenant,
        wishes=wishes,
    )
