"""Budgets of a day, a session and a tenant: what each request may cost by what is left of them.

What is left is read where limits are booked, so that all replicas spend from the same purse. The
wall is a limit's (``service.admission``); this only sees to it that nobody runs into it early.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from bandit_router.allowance import Rate, looked_at, per_request_usd
from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.limits import Bound, Usage, Window, seconds_left, span_start
from bandit_router.prices import estimate_input_tokens, most_usd
from bandit_router.protocols import Clock
from bandit_router.store.limit_store import LimitStore
from bandit_router.types import RoutingRequest

# How old a look at what a day has cost may be.
LOOK_S = 1.0


def budget_bounds(config: RouterConfig, tenant: str, session_id: str | None) -> Iterator[Bound]:
    """The walls that a request's budgets are: those of the day are strict."""
    of_tenant = config.tenants.get(tenant)
    if config.policy.budget_usd_per_day is not None:
        yield Bound("router:all", "day", "usd", config.policy.budget_usd_per_day, strict=True)
    if of_tenant is not None and of_tenant.budget_usd_per_day is not None:
        yield Bound(f"tenant:{tenant}", "day", "usd", of_tenant.budget_usd_per_day, strict=True)
    per_session = config.sessions.budget_usd
    if of_tenant is not None and of_tenant.budget_usd_per_session is not None:
        per_session = of_tenant.budget_usd_per_session
    if per_session is not None and session_id is not None:
        yield Bound(f"session:{tenant}:{session_id}", "session", "usd", per_session)


@dataclass(frozen=True, slots=True)
class _Look:
    window: Window
    usage: Usage
    rate: Rate


class Budgets:
    """Gives requests their allowance; requests without budgets pass as they are."""

    def __init__(
        self,
        config: RouterConfig,
        limits: LimitStore,
        models: Mapping[str, ModelConfig],
        clock: Clock,
    ) -> None:
        self._config = config
        self._limits = limits
        self._models = models
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    def follow(self, config: RouterConfig) -> None:
        """Pace by another configuration's budgets from now on."""
        self._config = config

    async def within(self, request: RoutingRequest) -> RoutingRequest:
        """The request with what it may cost on average, and without models that could cost more
        than a day has left, while others could not.

        Raises StoreError, or StoreUnavailable without a database.
        """
        tenant = self._config.tenants.get(request.tenant)
        per_request = None if tenant is None else tenant.budget_usd_per_request
        allowances = [] if per_request is None else [per_request]
        controls = request.controls
        for bound in budget_bounds(self._config, request.tenant, request.session_id):
            left_usd, requests = await self._left(bound)
            allowances.append(per_request_usd(left_usd, requests))
            if bound.strict:
                dear = self._too_dear(request, left_usd)
                controls = replace(controls, exclude=controls.exclude | dear)
        if not allowances:
            return request
        return replace(request, controls=controls, allowance_usd=min(allowances))

    def forget(self, request: RoutingRequest) -> bool:
        """Look anew at the request's days next time; whether there are any."""
        bounds = budget_bounds(self._config, request.tenant, request.session_id)
        old = {bound.subject for bound in bounds} & self._looks.keys()
        for subject in old:
            del self._looks[subject]
        return bool(old)

    async def _left(self, bound: Bound) -> tuple[float, float]:
        """Dollars left in the bound's window now, and the requests that they are for."""
        now = self._clock.now()
        window = Window(bound.subject, bound.span, span_start(bound.span, now))
        if bound.span == "session":
            usage = (await self._limits.booked([window]))[window]
            return bound.most - usage.cost_usd, float(self._config.sessions.expected_requests)
        look = await self._look(window, now)
        left_usd = bound.most - look.usage.cost_usd
        return left_usd, look.rate.per_s * seconds_left(bound.span, now)

    async def _look(self, window: Window, now: datetime) -> _Look:
        now_s = self._clock.monotonic_s()
        known = self._looks.get(window.subject)
        if known is not None and known.window == window and now_s - known.rate.at_s < LOOK_S:
            return known
        usage = (await self._limits.booked([window]))[window]
        elapsed_s = (now - window.starts_at).total_seconds()
        before = None if known is None else known.rate
        look = _Look(window, usage, looked_at(before, usage.requests, now_s, elapsed_s))
        self._looks[window.subject] = look
        return look

    def _too_dear(self, request: RoutingRequest, left_usd: float) -> frozenset[str]:
        """Models of which one call may take more than is left, where some may not."""
        output_tokens = request.max_output_tokens or self._config.limits.assumed_output_tokens
        input_tokens = estimate_input_tokens(request.messages)
        dear = frozenset(
            name
            for name, model in self._models.items()
            if most_usd(model, input_tokens, output_tokens) > left_usd
        )
        return dear if len(dear) < len(self._models) else frozenset()
