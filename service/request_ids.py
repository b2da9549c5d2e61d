"""The outermost layer: an id on every answer, and an answer to every bug."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import internal_problem
from service.metrics import Metrics

HEADER = b"x-request-id"
OVERHEAD = b"x-router-overhead-ms"
SANE = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
log = logging.getLogger(__name__)


class RequestIds:
    """Puts x-request-id on every response: the caller's own where it is sane, else a new one.

    An exception that nothing below caught is logged with that id and answered by a 500 that
    shows none of it.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[], str], metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._id_of(scope)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = message.get("headers", ())
                overhead_ms = next((value for name, value in headers if name == OVERHEAD), None)
                self._metrics.request(scope["path"], message["status"], overhead_ms)
                message["headers"] = [*headers, (HEADER, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                # Half an answer is out: only closing the connection tells the caller.
                raise
            await internal_problem(request_id).response()(scope, receive, send_with_id)

    def _id_of(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == HEADER and SANE.fullmatch(value):
                return str(value.decode())
        return self._new_id()
