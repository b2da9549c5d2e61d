"""Which models a cascade asks first, and which then. Each stage is a decision of its own, with
its own eligible set, so that both propensities are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.eligibility import is_weaker
from bandit_router.errors import InvalidRequest
from bandit_router.steering import tightened
from bandit_router.types import Controls, RoutingRequest

CASCADE = "cascade"
ESCALATED_FROM = "escalated_from"


def first_stage(config: RouterConfig, request: RoutingRequest) -> RoutingRequest:
    """The request as the first models get it; as it is where no cascade is to be.

    There is none for a model that is named or pinned, unless a session is pinned to one of the
    first models, nor where the caller's own candidates leave none of them. Raises
    InvalidRequest for a cascade that is not configured.
    """
    name = request.cascade
    if name is None or ESCALATED_FROM in request.influences:
        return request
    cascade = config.cascades.get(name)
    if cascade is None:
        known = ", ".join(sorted(config.cascades)) or "none: declare one under [cascades.<name>]"
        raise InvalidRequest(f"no cascade '{name}'; the configuration has {known}", param="cascade")
    first = cascade.first or without_strongest(config.routable)
    pin = request.pin
    if request.override is not None or (pin is not None and (pin.firm or pin.model not in first)):
        return request
    asked = tightened(request, first, Controls())
    if not asked.candidates:
        return request
    return replace(asked, influences={**asked.influences, CASCADE: name})


def second_stage(
    config: RouterConfig,
    request: RoutingRequest,
    *,
    cascade: str,
    first_id: UUID,
    asked: Sequence[str],
    left_usd: float | None,
) -> RoutingRequest | None:
    """The same request for stronger models; None where there is none to ask.

    request: as the caller sent it. asked: who failed or was found wanting. left_usd: of the
    request's limit.
    """
    models = {model.name: model for model in config.models}
    then = config.cascades[cascade].then
    if then is None:
        done = [models[name] for name in asked if name in models]
        then = tuple(m.name for m in config.routable if all(is_weaker(one, m) for one in done))
    then = tuple(name for name in then if name not in asked)
    stronger = tightened(request, then, Controls(max_cost_usd=left_usd))
    if not stronger.candidates:
        return None
    return replace(
        stronger,
        # The session's model is the one that was found wanting.
        pin=None,
        influences={**request.influences, CASCADE: cascade, ESCALATED_FROM: str(first_id)},
    )


def without_strongest(models: Sequence[ModelConfig]) -> tuple[str, ...]:
    """All models than which there is a stronger one."""
    return tuple(one.name for one in models if any(is_weaker(one, other) for other in models))
