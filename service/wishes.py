"""What a caller asks of the router itself: x-router headers, and a ``router`` object.

Both say the same things; where both do, the body counts, since a header is often set once for
a whole client. None of it is sent to a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers

from bandit_router.errors import InvalidRequest
from bandit_router.types import Controls, Tier
from service.storable import Storable

PREFIX = "x-router-"
FIELD = "router"
MOST_MODELS = 100
WORDS = {"enabled": True, "disabled": False}


def _plain_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("send a number")  # noqa: TRY004  pydantic reports ValueErrors
    return value


def _switch(value: object) -> object:
    return WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _names(value: object) -> object:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


Amount = Annotated[float, BeforeValidator(_plain_number), Field(ge=0, allow_inf_nan=False)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Text = Annotated[Storable, Field(min_length=1, max_length=256)]
Names = Annotated[
    tuple[Text, ...], BeforeValidator(_names), Field(min_length=1, max_length=MOST_MODELS)
]


class Wishes(BaseModel):
    """model, models: as in the body. exclude: models not to choose. explore: false to try
    nothing. metadata: true to be told why this model. cache: whether an answer to the same
    request will do, and this one may be kept. The rest as ``Controls`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Text | None = None
    models: Names | None = None
    exclude: Names | None = None
    minimum_tier: Tier | None = None
    max_cost_usd: Amount | None = None
    max_latency_s: Annotated[Amount, Field(gt=0)] | None = None
    max_first_token_s: Annotated[Amount, Field(gt=0)] | None = None
    quality_floor: Annotated[Amount, Field(le=1)] | None = None
    explore: Switch | None = None
    user_tier: Text | None = None
    workflow: Text | None = None
    cascade: Text | None = None
    session_id: Text | None = None
    metadata: Switch | None = None
    cache: Switch | None = None

    @property
    def controls(self) -> Controls:
        """What is asked of the choice itself."""
        return Controls(
            exclude=frozenset(self.exclude or ()),
            minimum_tier=self.minimum_tier,
            max_cost_usd=self.max_cost_usd,
            max_latency_s=self.max_latency_s,
            max_first_token_s=self.max_first_token_s,
            quality_floor=self.quality_floor,
            explore=self.explore is not False,
        )


NO_WISHES = Wishes()
HEADERS = {PREFIX + name.replace("_", "-"): name for name in Wishes.model_fields}
SUFFIXES = tuple(header.removeprefix(PREFIX) for header in HEADERS)


def read_wishes(headers: Headers, body: Mapping[str, Any]) -> Wishes:
    """The caller's wishes. Raises InvalidRequest that names every field or header at fault."""
    told, places = _of_headers(headers)
    asked = body.get(FIELD)
    if asked is None and not told:
        return NO_WISHES
    if asked is not None:
        if not isinstance(asked, dict):
            raise InvalidRequest(
                'router must be an object, such as {"max_cost_usd": 0.01}', param=FIELD
            )
        told |= asked
        places |= {name: f"{FIELD}.{name}" for name in asked}
    try:
        return Wishes.model_validate(told)
    except ValidationError as error:
        raise _refusal(error, places) from None


def _of_headers(headers: Headers) -> tuple[dict[str, Any], dict[str, str]]:
    told: dict[str, Any] = {}
    places: dict[str, str] = {}
    for raw, value in headers.raw:
        if not raw.startswith(b"x-router-"):
            continue
        header = raw.decode("latin-1")
        name = HEADERS.get(header)
        if name is None:
            # A bound that is misspelt must not be lost in silence; strangers' headers may pass.
            close = get_close_matches(header.removeprefix(PREFIX), SUFFIXES, n=1, cutoff=0.75)
            if close:
                raise InvalidRequest(f"unknown header {header}: did you mean {PREFIX}{close[0]}?")
            continue
        told[name] = value.decode("latin-1")
        places[name] = header
    return told, places


def _refusal(error: ValidationError, places: Mapping[str, str]) -> InvalidRequest:
    told = []
    first = None
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else FIELD
        place = places.get(name, f"{FIELD}.{name}")
        first = first or place
        if item["type"] == "extra_forbidden":
            close = get_close_matches(name, Wishes.model_fields, n=1)
            what = f"unknown, did you mean {close[0]}?" if close else "unknown, leave it out"
        else:
            what = item["msg"].removeprefix("Value error, ")
        told.append(f"{place}: {what}")
    return InvalidRequest("; ".join(told) + "; mend the request and send it again", param=first)
