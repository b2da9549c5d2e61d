"""The doors of every request and signal, answered before the application's own routing is reached.

What stands between the server and a route of FastAPI (a walk over every route, three layers of
exception handling, an exit stack) costs a request as much as its own parsing, and these doors
use none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Door = Callable[[Request], Awaitable[Response]]
OnError = Callable[[Request, Exception], Awaitable[Response]]


class HotDoors:
    """ASGI middleware: a POST to a door goes straight to it, everything else further in.

    doors: by path. on_error: the answer to each kind of exception that is a caller's to see.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        doors: Mapping[str, Door],
        on_error: Mapping[type[Exception], OnError],
    ) -> None:
        self._app = app
        self._doors = doors
        self._on_error = on_error
        self._told = tuple(on_error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = None
        if scope["type"] == "http" and scope["method"] == "POST":
            door = self._doors.get(scope["path"])
        if door is None:
            await self._app(scope, receive, send)
            return
        # As a route would leave it, for whoever names what was asked for.
        scope["endpoint"] = door
        request = Request(scope, receive, send)
        try:
            response = await door(request)
        except self._told as error:
            answer = next(self._on_error[kind] for kind in self._told if isinstance(error, kind))
            response = await answer(request, error)
        await response(scope, receive, send)
