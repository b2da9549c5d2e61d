"""The OpenAPI description of every door, with every status that it can answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

MEANINGS = {
    400: "No JSON, or no model can take the request",
    401: "The API key is missing or wrong",
    403: "The API key lacks the scope",
    404: "No such model, decision or page",
    402: "The dollars of the key or tenant are used up; see Retry-After",
    408: "The body was not whole in time",
    415: "The body is not declared as application/json",
    409: "It contradicts what is stored already",
    413: "The body is too large",
    422: "A field is wrong; param names it",
    429: "A limit is reached, of the caller or of every model; see Retry-After",
    500: "A bug; the log has it under the x-request-id",
    502: "Every model of the chain failed",
    503: "The database cannot be reached, or the service is not ready; see Retry-After",
    504: "No model answered within the deadline",
}
ALWAYS = (401, 403, 500, 503)
OF_PARAMETERS = (404, 422)
OF_BODIES = (400, 404, 408, 409, 413, 415, 422)
# What an upstream's refusal of the caller's own request is handed on with, and a chain's end.
OF_MODELS = (400, 402, 404, 413, 422, 429, 502, 504)
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
MODEL = {"type": "string", "minLength": 1, "description": '"auto", or a model\'s name'}
MODELS = {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1}
STREAM = {"type": ["boolean", "null"]}
TEXTS = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "items": {"type": "integer"}},
        },
    ]
}
MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "minLength": 1},
        "content": {"anyOf": [{"type": ["string", "null"]}, {"type": "array"}]},
    },
}
OBJECT = {"type": ["object", "null"]}


def _asks(summary: str, required: list[str], **fields: Any) -> dict[str, Any]:
    """A door whose body is OpenAI's: what the router reads is described, the rest let pass."""
    schema = {
        "type": "object",
        "required": ["model", *required],
        "properties": {"model": MODEL, "models": MODELS, "metadata": OBJECT, **fields},
        "additionalProperties": True,
    }
    return {
        "tags": ["models"],
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The answer, or the decision",
                "content": {"application/json": {}, "text/event-stream": {}},
            }
        },
    }


CHAT = {
    "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
    "stream": STREAM,
    "tools": {"type": ["array", "null"]},
    "response_format": OBJECT,
    "router": OBJECT,
}
PLAIN_DOORS = {
    "/v1/chat/completions": _asks("Chat", ["messages"], **CHAT),
    "/v1/route": _asks("The decision alone; no model is called", ["messages"], **CHAT),
    "/v1/completions": _asks("Completions", ["prompt"], prompt=TEXTS, stream=STREAM),
    "/v1/embeddings": _asks("Embeddings of the model that is named", ["input"], input=TEXTS),
    "/v1/responses": _asks(
        "Responses",
        [],
        input={"anyOf": [{"type": ["string", "null"]}, {"type": "array"}]},
        instructions={"type": ["string", "null"]},
        stream=STREAM,
    ),
}
CALLS_NO_MODEL = frozenset({"/v1/route"})


def describe(app: FastAPI) -> None:
    """Let the application's OpenAPI document tell of all its doors; made once, when asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    found["paths"].update({path: {"post": door} for path, door in PLAIN_DOORS.items()})
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {})["Error"] = ERROR
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, doors in found["paths"].items():
        for door in doors.values():
            _share_definitions(door, parts["schemas"])
            _add_statuses(path, door)
    return found


def _share_definitions(door: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move what a body's schema defines to where references of the document are looked up."""
    for content in door.get("requestBody", {}).get("content", {}).values():
        schemas.update(content["schema"].pop("$defs", {}))


def _add_statuses(path: str, door: dict[str, Any]) -> None:
    """The errors that a door can answer with, by what it takes."""
    answers = door["responses"]
    # FastAPI's own shape of a refused field is never sent.
    answers.pop("422", None)
    if path.startswith("/health"):
        statuses: set[int] = {503}
    else:
        # An empty requirement beside the key: on loopback the doors may be open.
        door["security"] = [{"key": []}, {}]
        statuses = set(ALWAYS)
        if door.get("parameters"):
            statuses.update(OF_PARAMETERS)
        if "requestBody" in door:
            statuses.update(OF_BODIES)
        if path in PLAIN_DOORS and path not in CALLS_NO_MODEL:
            statuses.update(OF_MODELS)
        if path in CALLS_NO_MODEL:
            statuses.update({402, 429})
    for status in sorted(statuses):
        answers.setdefault(
            str(status),
            {
                "description": MEANINGS.get(status, "Refused"),
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        )
