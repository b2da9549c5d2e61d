"""JSON answers of the doors: dataclasses, arrays and ids as they are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from starlette.responses import Response

from service.errors import Refused

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


def json_response(value: Any, status: int = 200) -> Response:
    """The value as JSON; NaN becomes null."""
    return Response(
        json_bytes(value),
        status_code=status,
        media_type="application/json",
    )


def json_bytes(value: Any) -> bytes:
    """The value as JSON; NaN becomes null."""
    return orjson.dumps(value, default=_plain, option=OPTIONS)


def _plain(value: object) -> str:
    # The driver's ids are a subclass, which orjson does not look through.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decision_id_of(text: str) -> UUID:
    """A decision's id from a path or a body. Raises Refused 422."""
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            f"'{text[:80]}' is no decision id; send the one that /v1/route or the "
            "x-router-decision-id header returned",
            status=422,
            code="invalid_request",
            param="decision_id",
        ) from None
