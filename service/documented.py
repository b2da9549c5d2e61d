"""Describing a body that a door reads by itself, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

SHARED = "#/components/schemas/{model}"


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a door whose body is this model; ``describe`` moves its ``$defs``."""
    schema = model.model_json_schema(ref_template=SHARED)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
