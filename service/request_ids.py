"""The outermost layer: an id on every answer, and an answer to every bug."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import internal_problem
from service.log_lines import current_request, requests
from service.metrics import Metrics

HEADER = b"x-request-id"
OVERHEAD = b"x-router-overhead-ms"
TOLD = {b"x-router-decision-id": "decision_id", b"x-router-model": "model"}
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
        status = 500
        told: dict[str, str] = {}
        logs_answers = requests.isEnabledFor(logging.INFO)
        begun_s = time.perf_counter()
        token = current_request.set(request_id)

        async def send_with_id(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                headers = message.get("headers", ())
                overhead_ms = next((value for name, value in headers if name == OVERHEAD), None)
                self._metrics.request(scope["path"], status, overhead_ms)
                if logs_answers:
                    told.update(_told(headers))
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
        finally:
            if logs_answers:
                duration_ms = round(1000.0 * (time.perf_counter() - begun_s), 3)
                about = {"method": scope["method"], "path": scope["path"], "status": status}
                requests.info("request", extra={**about, "duration_ms": duration_ms, **told})
            current_request.reset(token)

    def _id_of(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == HEADER and SANE.fullmatch(value):
                return str(value.decode())
        return self._new_id()


def _told(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """What the answer's headers say of the decision."""
    return {TOLD[name]: value.decode("latin-1") for name, value in headers if name in TOLD}
