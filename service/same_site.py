"""Keep other web pages out: on loopback without keys, the browser's user is all the proof there is.

A page elsewhere can make a browser send requests here. Two things tell them apart: a page whose
name was bound to this address anew (DNS rebinding) still sends its own name as Host, and what
another page sends to change something carries that page's Origin.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Refused, problem_of
from service.settings import is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# With keys only what a browser might be logged in to needs the check: a key is never sent unasked.
GUARDED = ("/admin", "/dashboard")


class SameSite:
    """ASGI middleware. host: the address that the service listens on. keyless: whether it asks
    for no API key."""

    def __init__(self, app: ASGIApp, *, host: str, keyless: bool) -> None:
        self._app = app
        self._host = host
        self._keyless = keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what comes from here; refuse the rest with 403."""
        if scope["type"] == "http":
            refused = self._refused(scope)
            if refused is not None:
                await problem_of(refused).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> Refused | None:
        if not self._keyless and not scope["path"].startswith(GUARDED):
            return None
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        if self._keyless and host is not None and not _is_here(host, self._host):
            return _refusal(
                f"the Host '{host[:100]}' is not this router's: without API keys it answers to "
                "localhost, 127.0.0.1 and [::1] only; call one of these, or set "
                "server.require_api_key = true",
                "wrong_host",
            )
        if origin is None or scope["method"] in SAFE_METHODS:
            return None
        if host is None or urlsplit(origin).netloc.lower() != host.lower():
            return _refusal(
                f"this was sent by the page '{origin[:100]}', not by this router's own: other "
                "pages may not change anything here",
                "wrong_origin",
            )
        return None


# Nearly all requests name the same host.
@lru_cache(maxsize=64)
def _is_here(host: str, own: str) -> bool:
    """Whether a Host header names this machine. own: the address listened on."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name == own.lower()


def _refusal(message: str, code: str) -> Refused:
    return Refused(message, status=403, code=code, kind="permission_error")
