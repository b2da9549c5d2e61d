"""GET /dashboard: the page and its modules, read once, compressed once, under a strict policy.

The files hold no data: what they show comes from the doors under /admin, which ask for the key.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE = "dashboard.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Only this page's own files run or are loaded; nothing may frame it; it posts no form anywhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked again each time, and answered by 304: a new version of the service shows at once.
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    gzipped: bytes
    media_type: str
    etag: str


def dashboard_routes() -> list[Route]:
    """The page at /dashboard, and its files under it."""
    files = {path.name: _read(path) for path in (Path(__file__).parent / "page").iterdir()}

    async def page(request: Request) -> Response:
        return _answer(request, files[PAGE])

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return _answer(request, found)

    return [
        Route("/dashboard", page, methods=["GET"]),
        Route("/dashboard/{name}", file, methods=["GET"]),
    ]


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    return _File(
        plain=plain,
        gzipped=gzip.compress(plain, mtime=0),
        media_type=MEDIA_TYPES[path.suffix],
        etag=f'"{hashlib.sha256(plain).hexdigest()[:24]}"',
    )


def _answer(request: Request, file: _File) -> Response:
    headers = {**HEADERS, "etag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.gzipped, media_type=file.media_type, headers=headers)
    return Response(file.plain, media_type=file.media_type, headers=headers)
