"""Reading a JSON object from a request, within bounds, with errors that say what to mend."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from bandit_router.config import ServerConfig
from bandit_router.errors import InvalidRequest
from service.errors import Refused

MAX_DEPTH = 100
MOST_FORGOTTEN_BYTES = 64 * 1024 * 1024
# What is left of the body is read by nobody.
HANG_UP = {"connection": "close"}
WORDS = {"extra_forbidden": "unknown field, leave it out", "missing": "is missing"}
Body = TypeVar("Body", bound=BaseModel)


class ClientGone(Exception):
    """The caller closed the connection before an answer."""


class ShuttingDown(Exception):
    """The service stops, and the answer was not there when its patience ended."""


async def read_object(request: Request, limits: ServerConfig) -> dict[str, Any]:
    """The request's JSON object.

    Raises Refused: 415 unless it is declared as JSON, 413 beyond max_body_bytes (also when the
    length was not announced), 408 beyond body_timeout_s, 400 where it is no JSON;
    InvalidRequest where it is not an object. ClientGone when the caller left.
    """
    check_declared_json(request.headers.get("content-type"))
    raw = bytearray()
    most = limits.max_body_bytes
    announced = request.headers.get("content-length", "")
    # Digits without end are no number worth computing: int() refuses them.
    too_large = announced.isdecimal() and (len(announced) > 18 or int(announced) > most)
    over = 0
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                if too_large or len(raw) + len(chunk) > most:
                    # Clients that write first and read later would find the connection reset
                    # in place of the answer: a bounded surplus is read and forgotten.
                    too_large = True
                    raw.clear()
                    over += len(chunk)
                    if over > MOST_FORGOTTEN_BYTES:
                        break
                else:
                    raw += chunk
    except ClientDisconnect as error:
        raise ClientGone from error
    except TimeoutError:
        if not too_large:
            raise _too_slow(limits.body_timeout_s) from None
    if too_large:
        raise _too_large(most)
    return parse_object(bytes(raw))


def check_declared_json(content_type: str | None) -> None:
    """Refuse 415 what is not declared as JSON.

    Browsers let any page send text, forms and untyped bytes anywhere; JSON they do not.
    """
    declared = (content_type or "").partition(";")[0].strip().lower()
    if declared != "application/json":
        told = f"is declared as '{declared[:80]}'" if declared else "has no declared type"
        raise Refused(
            f"the body {told}; send the header Content-Type: application/json",
            status=415,
            code="unsupported_media_type",
            param="content-type",
        )


def parse_object(raw: bytes) -> dict[str, Any]:
    """Bytes as a JSON object; raises as ``read_object`` does. NaN and infinity are no JSON."""
    if not raw.strip():
        raise Refused("the body is empty; send a JSON object", status=400, code="invalid_json")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(
            f"the body is not valid JSON: {error}; send one JSON object in UTF-8, without NaN or "
            "infinity",
            status=400,
            code="invalid_json",
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is a JSON {_kind(value)}; send a JSON object")
    _check_depth(value)
    return value


def validated(model: type[Body], value: dict[str, Any]) -> Body:
    """The object as a pydantic model. Raises InvalidRequest that names every field at fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_fields(error.errors()) from None


def invalid_fields(found: Any) -> InvalidRequest:
    """pydantic's findings as one error; ``param`` is the first field."""
    told, first = [], None
    for item in found:
        where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
        first = first or where or None
        what = WORDS.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        told.append(f"{where}: {what}" if where else str(what))
    return InvalidRequest("; ".join(told) + "; mend the request and send it again", param=first)


def _check_depth(value: dict[str, Any]) -> None:
    """Refuse what later recursion could not follow; itself without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            below += [item for item in items if isinstance(item, dict | list)]
        if not below:
            return
        level = below
    raise Refused(
        f"the body is nested deeper than {MAX_DEPTH} levels; flatten it",
        status=400,
        code="invalid_json",
    )


def _too_large(max_bytes: int) -> Refused:
    return Refused(
        f"the body exceeds {max_bytes} bytes; shorten it, or raise server.max_body_bytes",
        status=413,
        code="body_too_large",
        headers=HANG_UP,
    )


def _too_slow(timeout_s: float) -> Refused:
    return Refused(
        f"the body was not whole after {timeout_s:g} s; send it faster, or raise "
        "server.body_timeout_s",
        status=408,
        code="body_timeout",
        headers=HANG_UP,
    )


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
