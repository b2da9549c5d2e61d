"""What shapes a choice before any policy: the user's tier, the operator's rules, a workflow.

Each turns a request into one that asks for more: candidates are intersected, bounds tightened,
never loosened; and each leaves its name among the request's influences, which are logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bandit_router.config import Capability, RouterConfig
from bandit_router.config_steering import RuleConfig, RuleWhen, TierConfig, WorkflowConfig
from bandit_router.errors import InvalidRequest
from bandit_router.prices import estimate_input_tokens
from bandit_router.types import Controls, Mode, Pin, RoutingRequest, Tier

USER_TIER_LABEL = "user_tier"


def steered(config: RouterConfig, request: RoutingRequest) -> RoutingRequest:
    """The request after tier, rules and workflow, in this order.

    A model that the caller names outright stands, unless a binding rule speaks. Raises
    InvalidRequest for a tier or workflow that is not configured.
    """
    request = _with_tier(config, request)
    rule = first_rule(config.rules, request)
    if rule is not None and (request.override is None or rule.binding):
        request = under_rule(request, rule)
    if request.workflow is not None:
        request = _in_workflow(config, request)
    return request


def _with_tier(config: RouterConfig, request: RoutingRequest) -> RoutingRequest:
    name = request.user_tier
    if name is not None and name not in config.tiers:
        raise InvalidRequest(
            f"no user tier '{name}'; the configuration has "
            f"{', '.join(sorted(config.tiers)) or 'none: declare one under [tiers.<name>]'}",
            param="user_tier",
        )
    if name is None and config.tiers:
        label = request.metadata.get(USER_TIER_LABEL)
        tenant = config.tenants.get(request.tenant)
        name = label if label in config.tiers else tenant.tier if tenant is not None else None
    if name is None:
        return request
    tier: TierConfig = config.tiers[name]
    request = replace(request, user_tier=name, influences={**request.influences, "user_tier": name})
    if request.override is not None:
        return request
    asked = Controls(minimum_tier=tier.minimum_tier, quality_floor=tier.quality_floor)
    return tightened(request, tier.candidates, asked)


def first_rule(rules: Sequence[RuleConfig], request: RoutingRequest) -> RuleConfig | None:
    """The first rule that a request falls under."""
    return next((rule for rule in rules if holds(rule.when, request)), None)


def holds(when: RuleWhen, request: RoutingRequest) -> bool:
    """Whether everything that ``when`` says is so."""
    if when.tenant is not None and when.tenant != request.tenant:
        return False
    if when.user_tier is not None and when.user_tier != request.user_tier:
        return False
    if when.tools is not None and when.tools != (request.tool_count > 0):
        return False
    images = Capability.VISION.value in request.required_capabilities
    if when.images is not None and when.images != images:
        return False
    if when.response_format is not None and when.response_format != request.response_format:
        return False
    if any(request.metadata.get(name) != text for name, text in when.metadata.items()):
        return False
    if when.min_input_tokens is None and when.max_input_tokens is None:
        return True
    tokens = estimate_input_tokens(request.messages)
    least, most = when.min_input_tokens or 0, when.max_input_tokens
    return least <= tokens and (most is None or tokens <= most)


def under_rule(request: RoutingRequest, rule: RuleConfig) -> RoutingRequest:
    """The request as a rule wants it. A rule that names a model leaves nothing to choose."""
    then = rule.then
    request = replace(
        request,
        influences={**request.influences, "rule": rule.name},
        cascade=request.cascade or then.cascade,
    )
    if then.model is not None:
        return replace(
            request,
            override=None,
            candidates=(then.model, *(then.candidates or ())),
            pin=Pin(then.model, Mode.RULE, firm=True),
        )
    asked = Controls(
        exclude=frozenset(then.exclude),
        minimum_tier=then.minimum_tier,
        max_cost_usd=then.max_cost_usd,
        max_latency_s=then.max_latency_s,
        max_first_token_s=then.max_first_token_s,
        quality_floor=then.quality_floor,
        explore=then.explore is not False,
    )
    return tightened(replace(request, override=None), then.candidates, asked)


def _in_workflow(config: RouterConfig, request: RoutingRequest) -> RoutingRequest:
    name = request.workflow or ""
    pinned: WorkflowConfig | None = config.workflows.get(name)
    if pinned is None:
        raise InvalidRequest(
            f"no workflow '{name}'; the configuration has "
            f"{', '.join(sorted(config.workflows)) or 'none: declare it under [workflows.<name>]'}",
            param="workflow",
        )
    request = replace(request, influences={**request.influences, "workflow": name})
    if request.override is not None or request.pin is not None:
        return request
    if pinned.model is not None:
        return replace(
            request,
            candidates=(pinned.model, *pinned.fallbacks),
            pin=Pin(pinned.model, Mode.STICKY, firm=True),
        )
    of_tier = tuple(model.name for model in config.routable if model.tier is pinned.tier)
    return tightened(request, of_tier, Controls())


def tightened(
    request: RoutingRequest, candidates: Sequence[str] | None, asked: Controls
) -> RoutingRequest:
    """The request with both its own wishes and these; of two bounds the narrower holds."""
    own = request.controls
    listed = request.candidates
    if candidates is not None:
        allowed = tuple(candidates)
        listed = allowed if listed is None else tuple(name for name in listed if name in allowed)
    return replace(
        request,
        candidates=listed,
        controls=Controls(
            exclude=own.exclude | asked.exclude,
            minimum_tier=_stronger(own.minimum_tier, asked.minimum_tier),
            max_cost_usd=_least(own.max_cost_usd, asked.max_cost_usd),
            max_latency_s=_least(own.max_latency_s, asked.max_latency_s),
            max_first_token_s=_least(own.max_first_token_s, asked.max_first_token_s),
            quality_floor=_most(own.quality_floor, asked.quality_floor),
            explore=own.explore and asked.explore,
        ),
    )


def _stronger(one: Tier | None, other: Tier | None) -> Tier | None:
    given = [tier for tier in (one, other) if tier is not None]
    return max(given, key=tuple(Tier).index, default=None)


def _least(one: float | None, other: float | None) -> float | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((bound for bound in (one, other) if bound is not None), default=None)
