"""Which models a request leaves, and why each of the others is out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bandit_router.config import ModelConfig
from bandit_router.errors import NoEligibleModel, UnknownModel
from bandit_router.prices import DEFAULT_OUTPUT_TOKENS
from bandit_router.types import BoolArray, MaskReason, Operation, RoutingRequest, Tier


def check_known(names: Sequence[str], models: Sequence[ModelConfig], *, param: str) -> None:
    """Raise UnknownModel for the first name that is not configured."""
    known = {model.name for model in models}
    for name in names:
        if name not in known:
            raise UnknownModel(
                f"no model '{name}'; this router has {', '.join(sorted(known))}, "
                "or 'auto' to let it choose",
                param=param,
            )


def check_serves(
    names: Sequence[str], models: Sequence[ModelConfig], operation: Operation, *, param: str
) -> None:
    """Raise UnknownModel for the first of these configured names that does not serve the
    operation."""
    serving = [model.name for model in models if operation in model.serves]
    for name in names:
        if name not in serving:
            raise UnknownModel(
                f"model '{name}' does not serve {operation.value}; "
                + (f"those that do: {', '.join(serving)}" if serving else "no model here does")
                + ' (the configuration\'s serves = ["…"] says which)',
                param=param,
            )


def eligible_models(
    models: Sequence[ModelConfig],
    request: RoutingRequest,
    input_tokens: int,
    cooling_down: Callable[[str], bool],
    rate_limited: Callable[[str, int], bool] = lambda model, tokens: False,
) -> tuple[BoolArray, dict[str, MaskReason]]:
    """(K,) eligible flags, and the reason per model that is not.

    rate_limited: whether a model may not be sent so many tokens just now. Cool-downs and rate
    limits are ignored where they alone would leave nothing: a model that may have recovered is
    better than none, and whoever calls it keeps to its limit. Raises UnknownModel for an unknown
    candidate and NoEligibleModel, with every reason, where constraints leave nothing.
    """
    if request.candidates is not None:
        check_known(request.candidates, models, param="models")
    masked: dict[str, MaskReason] = {}
    for model in models:
        reason = _hard_reason(model, request, input_tokens)
        if reason is not None:
            masked[model.name] = reason
    if len(masked) == len(models):
        listed = ", ".join(f"{name}: {reason.value}" for name, reason in masked.items())
        raise NoEligibleModel(
            f"no model can take this request of about {input_tokens} tokens ({listed}); "
            "shorten it, ask for less, or name other candidates",
            masked=masked,
        )
    tokens = input_tokens + (request.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
    resting: dict[str, MaskReason] = {}
    for model in models:
        if model.name in masked:
            continue
        if cooling_down(model.name):
            resting[model.name] = MaskReason.COOLING_DOWN
        elif rate_limited(model.name, tokens):
            resting[model.name] = MaskReason.RATE_LIMITED
    if len(masked) + len(resting) < len(models):
        masked.update(resting)
    return np.array([model.name not in masked for model in models]), masked


def _hard_reason(
    model: ModelConfig, request: RoutingRequest, input_tokens: int
) -> MaskReason | None:
    if model.last_resort:
        return MaskReason.LAST_RESORT
    if request.operation not in model.serves:
        return MaskReason.OPERATION
    if model.paused:
        return MaskReason.PAUSED
    if request.candidates is not None and model.name not in request.candidates:
        return MaskReason.NOT_A_CANDIDATE
    if model.name in request.controls.exclude:
        return MaskReason.EXCLUDED
    if _is_below(model.tier, request.controls.minimum_tier):
        return MaskReason.BELOW_TIER
    if not request.required_capabilities <= model.capabilities:
        return MaskReason.CAPABILITY
    output_tokens = request.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    if input_tokens + output_tokens > model.context_window_tokens:
        return MaskReason.CONTEXT_WINDOW
    return None


def is_weaker(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether ``one`` is taken to be weaker than ``other``: by tier where both have one, and
    by list price where they have not, or have the same."""
    order = tuple(Tier)
    if one.tier is not None and other.tier is not None and one.tier is not other.tier:
        return order.index(one.tier) < order.index(other.tier)
    return _list_price(one) < _list_price(other)


def _list_price(model: ModelConfig) -> float:
    return model.output_usd_per_million + model.input_usd_per_million


def _is_below(tier: Tier | None, minimum: Tier | None) -> bool:
    """Whether a model of this tier is weaker than asked for; one
    without a tier is not known to be strong enough."""
    if minimum is None:
        return False
    order = tuple(Tier)
    return tier is None or order.index(tier) < order.index(minimum)
