"""A complete OpenAI-compatible server whose every answer follows from the request.

It answers all four operations, whole and streamed, and puts what it was sent into the answer
(``received``), so that two ways to it can be compared by what they bring back. Ids are hashes of
the request. A last user text ``fail:STATUS`` is refused with that status, ``fail:STATUS:once``
once; ``slow:SECONDS`` waits.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CREATED = 1_700_000_000
# What a gateway may add or take away; everything else must arrive as it was sent.
NOT_ECHOED = frozenset({"stream_options", "metadata"})
MESSAGES = {
    400: ("Invalid value for 'temperature'.", "invalid_request_error", "invalid_value"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    422: ("Unprocessable.", "invalid_request_error", "unprocessable"),
    429: ("Rate limit reached.", "rate_limit_error", "rate_limit_exceeded"),
    500: ("The server had an error.", "server_error", "server_error"),
    503: ("Overloaded.", "server_error", "overloaded"),
}


class ScriptedUpstream:
    """The server's state: which one-time failures have happened."""

    def __init__(self) -> None:
        self.failed: set[str] = set()
        self.bodies: list[dict[str, Any]] = []
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/v1/responses", self.responses, methods=["POST"]),
            ]
        )

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        if (refusal := await self._refusal(_last_text(body))) is not None:
            return refusal
        if body.get("stream"):
            return _events(_chat_chunks(body), done=True)
        return JSONResponse(_chat(body))

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        prompt = body.get("prompt")
        if (refusal := await self._refusal(prompt if isinstance(prompt, str) else "")) is not None:
            return refusal
        if body.get("stream"):
            return _events(_completion_chunks(body), done=True)
        prompts = prompt if isinstance(prompt, list) and isinstance(prompt[0], str) else [prompt]
        choices = [
            {"index": k, "text": f" answer {k}", "logprobs": None, "finish_reason": "stop"}
            for k in range(len(prompts) * body.get("n", 1))
        ]
        return JSONResponse(
            {**_envelope(body, "cmpl", "text_completion"), "choices": choices, "usage": _usage(5)}
        )

    async def embeddings(self, request: Request) -> Response:
        body = await self._body(request)
        texts = body["input"] if isinstance(body.get("input"), list) else [body.get("input")]
        if texts and all(type(token) is int for token in texts):
            texts = [texts]
        data = [
            {"object": "embedding", "index": k, "embedding": _vector(repr(text))}
            for k, text in enumerate(texts)
        ]
        if body.get("encoding_format") == "base64":
            for item in data:
                packed = struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])
                item["embedding"] = base64.b64encode(packed).decode()
        return JSONResponse(
            {
                "object": "list",
                "data": data,
                "model": body["model"],
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
                "received": _received(body),
            }
        )

    async def responses(self, request: Request) -> Response:
        body = await self._body(request)
        text = body.get("input")
        if (refusal := await self._refusal(text if isinstance(text, str) else "")) is not None:
            return refusal
        if body.get("stream"):
            return _events(_response_events(body), done=False)
        return JSONResponse(_response(body, "completed"))

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(await request.body())
        self.bodies.append(body)
        return body

    async def _refusal(self, text: str) -> Response | None:
        verb, _, rest = text.partition(":")
        if verb == "slow":
            await asyncio.sleep(float(rest))
            return None
        if verb != "fail":
            return None
        status, _, rest = rest.partition(":")
        if rest.startswith("once"):
            # The same text fails once on its way through the gateway and once directly.
            if text in self.failed:
                self.failed.discard(text)
                return None
            self.failed.add(text)
        message, kind, code = MESSAGES[int(status)]
        error = {"message": message, "type": kind, "param": None, "code": code}
        headers = {"retry-after": "0"} if rest else {}
        return JSONResponse({"error": error}, status_code=int(status), headers=headers)


@contextlib.asynccontextmanager
async def scripted_upstream() -> AsyncIterator[tuple[str, ScriptedUpstream]]:
    """The server on a loopback socket; yields its base URL and itself."""
    upstream = ScriptedUpstream()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(
        uvicorn.Config(upstream.app, lifespan="off", log_config=None, access_log=False)
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", upstream
    finally:
        server.should_exit = True
        await serving


def _events(events: Iterator[dict[str, Any]], *, done: bool) -> Response:
    async def sent() -> AsyncIterator[bytes]:
        for event in events:
            name = b"" if done else b"event: " + event["type"].encode() + b"\n"
            yield name + b"data: " + orjson.dumps(event) + b"\n\n"
            await asyncio.sleep(0)
        if done:
            yield b"data: [DONE]\n\n"

    return StreamingResponse(sent(), media_type="text/event-stream")


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    choices = []
    for index in range(body.get("n") or 1):
        message = _message(body, index)
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": _logprobs() if body.get("logprobs") else None,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            }
        )
    return {
        **_envelope(body, "chatcmpl", "chat.completion"),
        "choices": choices,
        "usage": _usage(7),
    }


def _message(body: dict[str, Any], index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    answer_format = body.get("response_format") or {}
    if body.get("tools") and body["messages"][-1].get("role") != "tool":
        message["tool_calls"] = [
            {
                "id": f"call_{k}",
                "type": "function",
                "function": {"name": tool["function"]["name"], "arguments": '{"city":"Oslo"}'},
            }
            for k, tool in enumerate(body["tools"])
            if tool.get("type") == "function"
        ]
    elif answer_format.get("type") in ("json_object", "json_schema"):
        message["content"] = '{"city":"Oslo","degrees":-3.5}'
    elif "audio" in (body.get("modalities") or ()):
        message["audio"] = {"id": "a1", "data": "AAAA", "expires_at": 1, "transcript": "hi"}
    else:
        message["content"] = f"Answer {index}: blau – 青 – \U0001f535"
    if body.get("reasoning_effort"):
        message["reasoning_content"] = "Because."
    return message


def _chat_chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    whole = _chat(body)
    asked = (body.get("stream_options") or {}).get("include_usage") is True
    # As OpenAI does: null in every chunk where usage is asked for, and no field where not.
    usage = {"usage": None} if asked else {}
    head = {**_envelope(body, "chatcmpl", "chat.completion.chunk"), **usage}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        if body.get("logprobs") and delta.get("content"):
            choice["logprobs"] = _logprobs()
        return {**head, "choices": [choice]}

    for choice in whole["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
        for word in (message["content"] or "").split(" "):
            if word:
                yield chunk(index, {"content": word + " "})
        for k, call in enumerate(message.get("tool_calls") or ()):
            name = {"name": call["function"]["name"], "arguments": ""}
            yield chunk(index, {"tool_calls": [{**call, "index": k, "function": name}]})
            for part in ('{"city":', '"Oslo"}'):
                piece = {"index": k, "function": {"arguments": part}}
                yield chunk(index, {"tool_calls": [piece]})
        yield chunk(index, {}, choice["finish_reason"])
    if asked:
        yield {**head, "choices": [], "usage": whole["usage"]}


def _completion_chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = (body.get("stream_options") or {}).get("include_usage") is True
    head = {**_envelope(body, "cmpl", "text_completion"), **({"usage": None} if asked else {})}
    for text, finish in ((" one", None), (" two", None), ("", "stop")):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        yield {**head, "choices": [choice]}
    if asked:
        yield {**head, "choices": [], "usage": _usage(2)}


def _response(body: dict[str, Any], status: str) -> dict[str, Any]:
    text = body.get("text") or {}
    structured = (text.get("format") or {}).get("type") == "json_schema"
    said = '{"city":"Oslo","degrees":-3.5}' if structured else "It scatters."
    output: list[dict[str, Any]] = [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": said, "annotations": []}],
        }
    ]
    if body.get("tools"):
        output = [
            {
                "id": "fc_1",
                "type": "function_call",
                "call_id": "call_1",
                "name": body["tools"][0]["name"],
                "arguments": '{"city":"Oslo"}',
                "status": "completed",
            }
        ]
    over = status == "completed"
    return {
        "id": "resp_" + _hash(body),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "model": body["model"],
        "output": output if over else [],
        "parallel_tool_calls": True,
        "temperature": body.get("temperature", 1.0),
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "text": text or {"format": {"type": "text"}},
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        }
        if over
        else None,
        "received": _received(body),
    }


def _response_events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    last = _response(body, "completed")
    item = last["output"][0]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(body, "in_progress")},
        {"type": "response.in_progress", "response": _response(body, "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
    ]
    if item["type"] == "message":
        part = item["content"][0]
        empty = {**part, "text": ""}
        events.append({"type": "response.content_part.added", **place, "part": empty})
        events += [
            {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
            for word in part["text"].split(" ")
        ]
        events.append(
            {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
        )
        events.append({"type": "response.content_part.done", **place, "part": part})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": "response.completed", "response": last})
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _envelope(body: dict[str, Any], prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{_hash(body)}",
        "object": kind,
        "created": CREATED,
        "model": body["model"],
        "system_fingerprint": "fp_1",
        "service_tier": "default",
        "received": _received(body),
    }


def _received(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in NOT_ECHOED}


def _hash(body: dict[str, Any]) -> str:
    raw = orjson.dumps(_received(body), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(raw).hexdigest()[:16]


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [(byte - 128) / 128 for byte in digest[:8]]


def _logprobs() -> dict[str, Any]:
    token = {"token": "a", "logprob": -0.25, "bytes": [97]}
    return {"content": [{**token, "top_logprobs": [token]}], "refusal": None}


def _usage(output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 11,
        "completion_tokens": output_tokens,
        "total_tokens": 11 + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def _last_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1].get("content")
    return content if isinstance(content, str) else ""
