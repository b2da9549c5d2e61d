"""The doors' reference, from the OpenAPI document that the service itself serves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bandit_router.clock import SystemClock
from bandit_router.config import ModelConfig, RouterConfig
from service.app import create_app
from service.runtime import Runtime
from service.settings import read_settings

HEAD = """# Every door

Made from the document that a running router serves at `/openapi.json`. What the doors are for, in
prose: [the HTTP interface](../api.md).

"""
METHODS = ("get", "post", "put", "delete")


def openapi() -> dict[str, Any]:
    """The OpenAPI document of a router that is never started."""
    model = ModelConfig(name="model", base_url="http://127.0.0.1:9/v1")
    config = RouterConfig(models=(model,))
    settings = read_settings(config, {}, os.urandom)
    runtime = Runtime(config, settings, clock=SystemClock(), random_bytes=os.urandom)
    found: dict[str, Any] = create_app(runtime).openapi()
    return found


def page() -> str:
    """The page in Markdown."""
    document = openapi()
    schemas = document.get("components", {}).get("schemas", {})
    doors = [
        _door(method, path, door[method], schemas)
        for path, door in document["paths"].items()
        for method in METHODS
        if method in door
    ]
    return HEAD + "\n".join(doors)


def _door(method: str, path: str, door: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    lines = [
        f"## `{method.upper()} {path}`",
        "",
        door.get("description") or door.get("summary", ""),
    ]
    if parameters := door.get("parameters"):
        lines += ["", "| parameter | in | type | |", "|---|---|---|---|"]
        lines += [
            f"| `{p['name']}`{'' if p.get('required') else ' (optional)'} | {p['in']} "
            f"| {_type(p.get('schema', {}), schemas)} | {_cell(p.get('description'))} |"
            for p in parameters
        ]
    body = door.get("requestBody", {}).get("content", {}).get("application/json", {})
    if fields := _resolved(body.get("schema", {}), schemas).get("properties"):
        needed = _resolved(body["schema"], schemas).get("required", ())
        lines += ["", "| field of the body | type | |", "|---|---|---|"]
        lines += [
            f"| `{name}`{'' if name in needed else ' (optional)'} | {_type(field, schemas)} "
            f"| {_cell(field.get('description'))} |"
            for name, field in fields.items()
        ]
    lines += ["", "| status | |", "|---|---|"]
    lines += [
        f"| {status} | {_cell(answer.get('description'))} |"
        for status, answer in sorted(door["responses"].items())
    ]
    return "\n".join(lines) + "\n"


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    schema = _resolved(schema, schemas)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for combined in ("anyOf", "oneOf"):
        if combined in schema:
            kinds = dict.fromkeys(_type(part, schemas) for part in schema[combined])
            return " or ".join(kinds)
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {}), schemas)}"
    return str(kind)


def _cell(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("|", "\\|")
