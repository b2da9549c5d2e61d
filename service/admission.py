"""Whether a call may still be paid for: reserved before it, settled after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bandit_router.config import ModelConfig, RouterConfig
from bandit_router.errors import RouterError, StoreUnavailable
from bandit_router.limits import Bound, Claim, Headroom
from bandit_router.prices import most_usd
from bandit_router.protocols import Clock
from bandit_router.store.api_keys import Principal
from bandit_router.store.limit_store import LimitStore, Settlement
from bandit_router.types import Attempt, AttemptStatus, Decision, Mode, Outcome, Pin, RoutingRequest
from service.budgets import budget_bounds

SETTLE_RETRY_S = 1.0
SETTLE_TRIES = 100
# Calls that ended so may have been billed without our being told.
MAYBE_BILLED = frozenset(
    {
        AttemptStatus.TIMEOUT,
        AttemptStatus.BAD_RESPONSE,
        AttemptStatus.STREAM_BROKEN,
        AttemptStatus.CANCELLED,
    }
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A decision whose call may be made. headers: what its caller is told of it."""

    decision: Decision
    headers: dict[str, str]


class Admission:
    """Claims a call's greatest cost under the caller's limits; callers without any pass free."""

    def __init__(
        self,
        config: RouterConfig,
        store: LimitStore,
        models: Mapping[str, ModelConfig],
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._models = models
        self._clock = clock
        self._settling: set[asyncio.Task[None]] = set()

    def follow(self, config: RouterConfig) -> None:
        """Hold calls from now on to another configuration's limits."""
        self._config = config

    async def reserve(
        self,
        principal: Principal,
        decision: Decision,
        max_output_tokens: int | None,
        *,
        dollars: bool = True,
    ) -> tuple[Headroom, ...]:
        """Book what the decision's call may take at most; returns what its caller has left.

        dollars: whether limits in dollars hold for it. Cancelled, it gives back what it booked.
        Raises LimitExceeded, StoreError, or StoreUnavailable.
        """
        claim = self.claim_of(principal, decision, max_output_tokens, dollars=dollars)
        if claim is None:
            return ()
        reserving = asyncio.create_task(self._store.reserve(claim), name="reservation")
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            # The store writes what it was handed, whoever has left meanwhile.
            self._settle_later(self._give_back(reserving, claim))
            raise

    def claim_of(
        self,
        principal: Principal,
        decision: Decision,
        max_output_tokens: int | None,
        *,
        dollars: bool = True,
    ) -> Claim | None:
        """What is to be reserved for a decision; None where no limit concerns its caller."""
        bounds = (
            *self._bounds(principal),
            *budget_bounds(self._config, decision.tenant, decision.session_id),
        )
        if not bounds:
            return None
        self.limited = True
        output_tokens = max_output_tokens or self._config.limits.assumed_output_tokens
        names = (decision.chosen, *decision.fallbacks)
        cost_usd = max(
            most_usd(self._models[name], decision.input_tokens, output_tokens) for name in names
        )
        # A model without list prices is taken at what its bills were so far.
        expected = float(decision.prediction.cost_usd[decision.arms.index(decision.chosen)])
        return Claim(
            decision_id=decision.id,
            at=self._clock.now(),
            bounds=tuple(bound for bound in bounds if dollars or bound.what != "usd"),
            booked_in=tuple(dict.fromkeys((bound.subject, bound.span) for bound in bounds)),
            tokens=decision.input_tokens + output_tokens,
            cost_usd=cost_usd or expected,
        )

    def local_instead(self, request: RoutingRequest) -> RoutingRequest | None:
        """The request for the cheapest local model, where that is what the tenant gets when
        dollars have run out; None where it is refused."""
        tenant = self._config.tenants.get(request.tenant)
        choice = tenant.over_budget if tenant is not None else None
        local = [model for model in self._config.models if model.local and not model.paused]
        if (choice or self._config.limits.over_budget) != "local" or not local:
            return None
        cheapest = min(
            local,
            key=lambda m: (m.output_usd_per_million, m.usd_per_hour, not m.last_resort),
        )
        return replace(
            request,
            override=None,
            candidates=(cheapest.name,),
            pin=Pin(cheapest.name, Mode.RULE, firm=True),
            influences={**request.influences, "degraded": "budget"},
        )

    def close(self, outcome: Outcome, attempts: Sequence[Attempt]) -> None:
        """Settle beside whatever comes next; a database that is away is waited for."""
        if not self.limited:
            return
        self._settle_later(self._settle(settlement_of(outcome, attempts)))

    async def settled(self, within_s: float) -> None:
        """Wait for settlements under way; those that come too late leave their reservation."""
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=within_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    limited = False

    def _bounds(self, principal: Principal) -> Iterator[Bound]:
        config = self._config
        tenant = config.tenants.get(principal.tenant)
        of_tenant = config.limits.tenant if tenant is None else tenant.limits
        for subject, limits in (
            (f"key:{principal.key_id}", principal.limits),
            (f"tenant:{principal.tenant}", of_tenant),
        ):
            for what, span, most in limits.given:
                yield Bound(subject, span, what, most)

    def _settle_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="settlement")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _give_back(self, reserving: asyncio.Task[Any], claim: Claim) -> None:
        await asyncio.wait([reserving])
        if not reserving.cancelled() and reserving.exception() is None:
            await self._settle(Settlement(claim.decision_id, self._clock.now(), 0, 0.0))

    async def _settle(self, settlement: Settlement) -> None:
        for _ in range(SETTLE_TRIES):
            try:
                await self._store.settle(settlement)
            except StoreUnavailable:
                await asyncio.sleep(SETTLE_RETRY_S)
            except RouterError as error:
                log.error("decision %s stays booked as reserved: %s", settlement.decision_id, error)
                return
            else:
                return


def settlement_of(outcome: Outcome, attempts: Sequence[Attempt]) -> Settlement:
    """What a chain took; what nobody knows stays booked as it was reserved."""
    unknown = any(a.cost_usd is None and a.status in MAYBE_BILLED for a in attempts)
    answered = outcome.answered_by is not None
    cost_usd = outcome.cost_usd
    if cost_usd is None and not answered:
        cost_usd = 0.0
    tokens: int | None = (outcome.input_tokens or 0) + (outcome.output_tokens or 0)
    if answered and (outcome.input_tokens is None or outcome.output_tokens is None):
        tokens = None
    if unknown:
        tokens, cost_usd = None, None
    return Settlement(outcome.decision_id, outcome.finished_at, tokens, cost_usd)
