"""The recorded upstream: one fixed chat answer, whole or streamed, by plain ASGI."""

from __future__ import annotations

import json
from typing import Any

STREAM_CHUNKS = 64
_BASE = {"id": "chatcmpl-recorded", "created": 1_700_000_000, "model": "recorded"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": STREAM_CHUNKS}
_USAGE["total_tokens"] = sum(_USAGE.values())
_WHOLE = json.dumps(
    _BASE
    | {
        "object": "chat.completion",
        "usage": _USAGE,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "word " * STREAM_CHUNKS},
            }
        ],
    }
).encode()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = _BASE | {"object": "chat.completion.chunk", "choices": choices} | more
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _choice(content: str | None, finish: str | None) -> dict[str, Any]:
    delta = {} if content is None else {"role": "assistant", "content": content}
    return {"index": 0, "delta": delta, "finish_reason": finish}


_EVENTS = (
    *(_event([_choice("word ", None)]) for _ in range(STREAM_CHUNKS)),
    _event([_choice(None, "stop")]),
    _event([], usage=_USAGE),
    b"data: [DONE]\n\n",
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request alike; the only thing read is whether it wants a stream."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    streamed = bool(body) and json.loads(body).get("stream", False)
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if streamed:
        for event in _EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": _WHOLE})
