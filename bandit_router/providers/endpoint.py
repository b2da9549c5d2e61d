"""One HTTP endpoint: its connections, and bytes in and out of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp

CONNECT_TIMEOUT_S = 5.0
# aiohttp pauses the socket at twice this: the default of 64 KiB stalls large answers.
READ_BUFFER_BYTES = 1024 * 1024
# How long to wait for the end of the body after [DONE], so that the connection can be reused.
DRAIN_TIMEOUT_S = 0.05
Connector = Callable[[], aiohttp.BaseConnector]


class Endpoint:
    """Posts JSON below one URL over pooled connections, opened at the first post.

    connector: builds an aiohttp connector inside the running loop, one that makes a new
    connection for every post.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connector: Connector | None) -> None:
        self._url = url
        self._headers = headers
        self._connector = connector or _tcp_connector
        self._pools = connector is None
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str, payload: bytes, *, accept: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The response as soon as its head is here; the caller releases it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                headers=self._headers,
                read_bufsize=READ_BUFFER_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        while True:
            connection = _Connection()
            _current.set(connection)
            try:
                # A redirect would carry the key to wherever the upstream points.
                return await self._session.post(
                    self._url + path,
                    data=payload,
                    headers={"Accept": accept, **headers},
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The upstream had closed an idle connection: no failure of the model. Each
                # stale one leaves the pool, so this ends at a fresh one.
                if connection.fresh or not self._pools:
                    raise

    async def close(self) -> None:
        """Close the connections; a later post opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


@dataclass(slots=True)
class _Connection:
    fresh: bool = False


# How the socket factory tells the call at hand that its connection is new; aiohttp's tracing
# tells it too, at 40 µs a call.
_current: ContextVar[_Connection] = ContextVar("_current")


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    _current.get().fresh = True
    return socket.socket(family, kind, protocol)


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
    return aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, socket_factory=_open_socket)
