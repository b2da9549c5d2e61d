"""An OpenAI-compatible upstream on a loopback socket that fails in every way on demand.

Speaks raw HTTP, so that it can do what no server library would: say nothing, lie about the
length, cut the connection anywhere. Each request takes the next behaviour of the list; the
last one stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONG_S = 30.0
ANSWER = "Because air scatters blue light."
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass
class Exchange:
    """One request under way."""

    server: MisbehavingServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: dict[str, str]
    body: dict[str, Any]

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, raw: bytes) -> None:
        await self.send(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    async def wait_until_peer_leaves(self) -> None:
        if await self.reader.read(1) == b"":
            self.server.peer_left.set()

    def cut(self) -> None:
        """Reset the connection, as a crash does."""
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass
class MisbehavingServer:
    base_url: str
    port: int
    behaviours: list[Behaviour]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    peer_left: asyncio.Event = field(default_factory=asyncio.Event)

    def next_behaviour(self) -> Behaviour:
        return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                pairs = (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
                headers = {name.lower(): value.strip() for name, value in pairs}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.bodies.append(body)
                self.headers.append(headers)
                exchange = Exchange(self, reader, writer, headers, body)
                await self.next_behaviour()(exchange)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def misbehaving(
    *behaviours: Behaviour, greeting: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[MisbehavingServer]:
    """A running server; every connection is gone when the block ends.

    greeting: said to every connection unasked, which no TLS client understands. tls: with which
    it speaks.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writer.write(greeting)
        with contextlib.suppress(asyncio.CancelledError):
            await upstream.serve(reader, writer)
        tasks.discard(task)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    upstream = MisbehavingServer(f"{scheme}://127.0.0.1:{port}/v1", port, list(behaviours))
    try:
        yield upstream
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def refused_url() -> str:
    """The address of a port that was just free: nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def whole(content: str = ANSWER, usage: Mapping[str, Any] | None = USAGE) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "upstream",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
    }
    if usage is not None:
        body["usage"] = dict(usage)
    return body


def delta(content: str | None, finish_reason: str | None = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [
            {
                "index": 0,
                "delta": {} if content is None else {"content": content},
                "finish_reason": finish_reason,
            }
        ],
        **extra,
    }


def event(body: object) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def respond(status: int, body: object, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with this status and JSON body."""

    async def behaviour(exchange: Exchange) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await exchange.head(
            status,
            {
                "Content-Type": "application/json",
                "Content-Length": str(len(raw)),
                **(headers or {}),
            },
        )
        await exchange.send(raw)

    return behaviour


def refuse(status: int, code: str = "", message: str = "no", **headers: str) -> Behaviour:
    """Answer with an error in OpenAI's shape; header names with underscores for hyphens."""
    error = {"message": message, "type": "error", "param": None, "code": code or None}
    return respond(
        status,
        {"error": error},
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def stream_of(*raws: bytes, then: Behaviour | None = None, pause_s: float = 0.0) -> Behaviour:
    """Send these bytes chunk by chunk; then end the body well, or do as ``then`` does."""

    async def behaviour(exchange: Exchange) -> None:
        await exchange.head(
            200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        )
        for raw in raws:
            await exchange.chunk(raw)
            if pause_s:
                await asyncio.sleep(pause_s)
        if then is None:
            await exchange.send(b"0\r\n\r\n")
        else:
            await then(exchange)

    return behaviour


async def answer(exchange: Exchange) -> None:
    """What a good upstream does, whole or streamed as the request asks."""
    if not exchange.body.get("stream"):
        await respond(200, whole())(exchange)
        return
    words = ANSWER.split(" ")
    raws = [event(delta(words[0]))] + [event(delta(f" {word}")) for word in words[1:]]
    raws.append(event(delta(None, "stop")))
    if exchange.body.get("stream_options", {}).get("include_usage"):
        raws.append(event({"object": "chat.completion.chunk", "choices": [], "usage": USAGE}))
    await stream_of(*raws, b"data: [DONE]\n\n")(exchange)


async def silence(exchange: Exchange) -> None:
    """Take the request and never say a word; notes when the client leaves."""
    async with asyncio.timeout(LONG_S):
        await exchange.wait_until_peer_leaves()
    exchange.cut()


async def hang_up(exchange: Exchange) -> None:
    """Take the request and cut the connection."""
    exchange.cut()


async def truncate(exchange: Exchange) -> None:
    """Promise a length and stop half way."""
    raw = json.dumps(whole()).encode()
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(raw))})
    await exchange.send(raw[: len(raw) // 2])
    exchange.writer.close()


def failing_stream(failure: Behaviour) -> Behaviour:
    """Stream one good piece, and then this."""
    return stream_of(event(delta("Because")), then=failure)


def words_of(bodies: Sequence[bytes]) -> str:
    """The text that a list of streamed chunks adds up to."""
    text = ""
    for raw in bodies:
        for choice in json.loads(raw)["choices"]:
            text += choice["delta"].get("content") or ""
    return text
