"""One HTTP endpoint: its connections, and bytes in and out of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

CONNECT_TIMEOUT_S = 5.0
# aiohttp pauses the socket at twice this: the default of 64 KiB stalls large answers.
READ_BUFFER_BYTES = 1024 * 1024
# How long to wait for the end of the body after [DONE], so that the connection can be reused.
DRAIN_TIMEOUT_S = 0.05
Connector = Callable[[], aiohttp.BaseConnector]


class Endpoint:
    """Posts JSON to one URL over pooled connections, opened at the first post.

    connector: builds the aiohttp connector inside the running loop.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connector: Connector | None) -> None:
        self._url = url
        self._headers = headers
        self._connector = connector or _tcp_connector
        self._session: aiohttp.ClientSession | None = None

    async def post(self, payload: bytes, *, accept: str) -> aiohttp.ClientResponse:
        """The response as soon as its head is here; the caller releases it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                headers=self._headers,
                read_bufsize=READ_BUFFER_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_reuse_tracing()],
            )
        while True:
            connection = _Connection()
            try:
                # A redirect would carry the key to wherever the upstream points.
                return await self._session.post(
                    self._url,
                    data=payload,
                    headers={"Accept": accept},
                    allow_redirects=False,
                    trace_request_ctx=connection,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The upstream had closed an idle connection: no failure of the model. Each
                # stale one leaves the pool, so this ends at a fresh one.
                if not connection.reused:
                    raise

    async def close(self) -> None:
        """Close the connections; a later post opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


@dataclass(slots=True)
class _Connection:
    reused: bool = False


async def _note_reuse(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True


def _reuse_tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    return tracing


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes | None:
    """The body, or None where it is longer than limit_bytes."""
    chunks, size_bytes = [], 0
    async for chunk in response.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of a body whose last event has come."""
    if response.content.at_eof():
        return
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await response.content.readany()


def _tcp_connector() -> aiohttp.BaseConnector:
    # The router's own limits bound concurrency; a pool limit would queue unseen.
    return aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
