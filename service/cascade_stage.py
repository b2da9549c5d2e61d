"""One stage of a cascade: a decision, its chain of calls, what they cost, and their booking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bandit_router.cascade import Finding
from bandit_router.cascade.verdict import UNCHECKED
from bandit_router.chain_budget import ChainBudget, strictest
from bandit_router.completion import NO_BUDGET, Completed
from bandit_router.errors import AllModelsFailed, ProviderError, RequestRefused, StoreUnavailable
from bandit_router.open_stream import HeardStream
from bandit_router.types import Attempt, Decision
from service.runtime import Runtime
from service.turn import Turn, abandon, ask

Failure = AllModelsFailed | RequestRefused


@dataclass(slots=True)
class Stage:
    """What one stage came to. result: None where no model answered, and failure says why.
    upstream_s: what its calls took so far. cost_usd: None where nobody told."""

    decision: Decision
    result: Completed | HeardStream | None
    attempts: tuple[Attempt, ...]
    upstream_s: float
    cost_usd: float | None
    failure: Failure | None = None
    finding: Finding = UNCHECKED

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(attempt.model for attempt in self.attempts) or (self.decision.chosen,)


class Stages:
    """Makes the stages of one request under one bound on dollars.

    judges_usd: what the checks' judges have cost so far, which counts towards the bound.
    """

    def __init__(self, runtime: Runtime, turn: Turn, judges_usd: Callable[[], float]) -> None:
        self._runtime = runtime
        self._turn = turn
        self._judges_usd = judges_usd
        self._limit_usd = strictest(
            runtime.config.fallback.max_cost_usd, turn.chat.routing.controls.max_cost_usd
        )

    async def make(
        self,
        decision: Decision,
        upstream: Mapping[str, Any],
        within_s: float,
        before: Stage | None = None,
        *,
        spares_last_resort: bool,
    ) -> Stage:
        """Store a decision and make its calls. upstream: the body for the models. before: the
        first stage, of the second one, whose stream is handed back as it begins and is to be
        booked at its end. spares_last_resort: leave the last resorts out, where others are left.

        Raises StoreUnavailable; nothing then leaves. Cancelled, it ends its calls and books
        what they came to.
        """
        runtime = self._runtime
        names = (decision.chosen, *decision.fallbacks)
        if spares_last_resort:
            last = {model.name for model in runtime.config.last_resorts}
            names = tuple(name for name in names if name not in last) or names
        log = runtime.chain.new_log(decision.id)
        begun_s = runtime.clock.monotonic_s()
        entered = runtime.books.enter(decision)
        if not runtime.books.store_answers:
            # A model that is paid for an answer which then may not leave would be a waste.
            await entered
        chat = replace(self._turn.chat, upstream=upstream)
        call = asyncio.create_task(
            ask(runtime, chat, names, decision.id, log, self._budget(decision, before), within_s),
            name="chain",
        )
        failure: Failure | None = None
        result: Completed | HeardStream | None = None
        try:
            await entered
            found, _ = await call
            if isinstance(found, Completed):
                result = found
            else:
                result = HeardStream(found)
                if before is None:
                    await result.hear_out()
        except (AllModelsFailed, RequestRefused) as error:
            failure = error
        except ProviderError as error:
            failure, result = AllModelsFailed(str(error), log.attempts), None
        except BaseException as error:
            await abandon(call)
            if not isinstance(error, StoreUnavailable):
                runtime.books.close(log.outcome(), log.attempts)
            raise
        upstream_s = runtime.clock.monotonic_s() - begun_s
        # A stream that is still to come is booked at its end.
        if not isinstance(result, HeardStream) or before is None:
            runtime.books.close(log.outcome(), log.attempts)
        cost_usd = log.outcome().cost_usd
        return Stage(decision, result, log.attempts, upstream_s, cost_usd, failure)

    def left_usd(self, before: Stage | None) -> float | None:
        """What the request may still cost after its first stage; None without a bound."""
        if self._limit_usd is None:
            return None
        return self._limit_usd - (0.0 if before is None else self._spent_usd(before))

    def _budget(self, decision: Decision, before: Stage | None) -> ChainBudget:
        left_usd = self.left_usd(before)
        if left_usd is None:
            return NO_BUDGET
        return ChainBudget(max(left_usd, 0.0), _expected_usd(decision))

    def _spent_usd(self, stage: Stage) -> float:
        expected = ChainBudget(None, _expected_usd(stage.decision))
        return expected.spent_usd(stage.attempts) + self._judges_usd()


def _expected_usd(decision: Decision) -> dict[str, float]:
    return dict(zip(decision.arms, decision.prediction.cost_usd.tolist(), strict=True))
