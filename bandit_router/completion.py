"""The fallback chain: call one model after the other until one answers, within one deadline."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from bandit_router.attempts import AttemptLog, OpenAttempt
from bandit_router.breakers import Breakers
from bandit_router.chain_budget import ChainBudget
from bandit_router.config import FallbackConfig, ModelConfig
from bandit_router.errors import (
    AllModelsFailed,
    ConfigError,
    CostLimitReached,
    DeadlineExceeded,
    ProviderError,
    RequestRefused,
)
from bandit_router.open_stream import Beginning, OpenStream
from bandit_router.prices import most_tokens
from bandit_router.protocols import Answer, Clock, ModelCall, Provider
from bandit_router.types import Attempt, AttemptStatus, Operation, Outcome
from bandit_router.upstream_limits import FREE, Grant, UpstreamLimits

ROUTER_FIELDS = frozenset({"models", "router"})
# What is kept of the deadline for the last resort when the models before it hang.
LAST_RESORT_SHARE = 0.25
NO_BUDGET = ChainBudget()
Result = TypeVar("Result")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Completed:
    """A whole answer, and what it took to get it."""

    answer: Answer
    outcome: Outcome
    attempts: tuple[Attempt, ...]


def prepare_body(body: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    """The body to send upstream: ``model`` as the provider knows it, router-only fields
    dropped, every other field, unknown ones included, untouched."""
    sent = {key: value for key, value in body.items() if key not in ROUTER_FIELDS}
    sent["model"] = model.served_as
    return sent


class FallbackChain:
    """Calls models in order, with retries, breakers and one deadline for all of them."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        providers: Mapping[str, Provider],
        config: FallbackConfig,
        *,
        breakers: Breakers,
        clock: Clock,
        rng: random.Random,
        limits: UpstreamLimits | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        without = sorted(models.keys() - providers.keys())
        if without:
            raise ConfigError(f"no provider was built for {', '.join(without)}")
        self._models = models
        self._providers = providers
        self._config = config
        self._breakers = breakers
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._sleep = sleep

    async def complete(
        self,
        names: Sequence[str],
        body: Mapping[str, Any],
        *,
        decision_id: UUID,
        context: Mapping[str, str],
        operation: Operation = Operation.CHAT,
        log: AttemptLog | None = None,
        deadline_s: float | None = None,
        budget: ChainBudget = NO_BUDGET,
    ) -> Completed:
        """The first whole answer along names (chosen, fallbacks, last resorts).

        log: hand one in (``new_log``) to see the attempts even when the task is cancelled.
        deadline_s: instead of the configured one. budget: of all attempts together. Raises
        AllModelsFailed, DeadlineExceeded, CostLimitReached, or RequestRefused where an upstream
        finds the request itself at fault.
        """
        log = log or self.new_log(decision_id)

        async def call_once(provider: Provider, call: ModelCall, attempt: OpenAttempt) -> Answer:
            async with asyncio.timeout(call.timeout_s):
                answer = await provider.complete(call)
            attempt.succeed(answer.usage)
            return answer

        answer = await self._run(
            names, body, context, operation, log, deadline_s, budget, call_once, stream=False
        )
        return Completed(answer=answer, outcome=log.outcome(), attempts=log.attempts)

    async def open_stream(
        self,
        names: Sequence[str],
        body: Mapping[str, Any],
        *,
        decision_id: UUID,
        context: Mapping[str, str],
        operation: Operation = Operation.CHAT,
        log: AttemptLog | None = None,
        deadline_s: float | None = None,
        budget: ChainBudget = NO_BUDGET,
    ) -> OpenStream:
        """The first stream along names that yields content; arguments as in ``complete``.

        Its first hold_first_s are read before it is handed on. The deadline bounds the stream
        to its end.
        """
        log = log or self.new_log(decision_id)

        async def call_once(
            provider: Provider, call: ModelCall, attempt: OpenAttempt
        ) -> OpenStream:
            beginning = Beginning(provider.stream(call), attempt)
            await beginning.read_ahead(call.first_token_timeout_s, self._config.hold_first_s)
            return OpenStream(beginning, log)

        return await self._run(
            names, body, context, operation, log, deadline_s, budget, call_once, stream=True
        )

    def new_log(self, decision_id: UUID) -> AttemptLog:
        """An empty log for one decision."""
        return AttemptLog(decision_id, clock=self._clock, breakers=self._breakers)

    async def _run(
        self,
        names: Sequence[str],
        body: Mapping[str, Any],
        context: Mapping[str, str],
        operation: Operation,
        log: AttemptLog,
        deadline_s: float | None,
        budget: ChainBudget,
        call_once: Callable[[Provider, ModelCall, OpenAttempt], Awaitable[Result]],
        *,
        stream: bool,
    ) -> Result:
        total_s = self._config.deadline_s if deadline_s is None else deadline_s
        ends_at = self._clock.monotonic_s() + total_s
        chain = self._order(names)
        reserve_s = total_s * LAST_RESORT_SHARE if chain and chain[-1].last_resort else 0.0
        failure: ProviderError | None = None
        passed = _PassedOver()
        rest = deque(chain)
        while rest:
            model = rest.popleft()
            if passed.holds(model):
                continue
            keep_s = 0.0 if model.last_resort else reserve_s
            sent = prepare_body(body, model)
            for retry in range(self._config.num_retries + 1):
                remaining_s = ends_at - keep_s - self._clock.monotonic_s()
                if remaining_s <= 0.0:
                    break
                if not (model.last_resort or budget.allows(model.name, log.attempts)):
                    passed.too_dear = True
                    break
                attempt = log.open(model, sent, self._grant(model, sent))
                # Once a stream has begun nothing follows it, so nothing is kept for later.
                attempt_s = min(self._config.attempt_timeout_s, remaining_s)
                whole_s = remaining_s + keep_s if stream else attempt_s
                call = self._call(sent, context, operation, attempt_s, whole_s)
                try:
                    # With others to turn to there is nothing to wait for.
                    attempt.check_granted(retry=not rest)
                    return await call_once(self._providers[model.name], call, attempt)
                except TimeoutError:
                    failure = ProviderError(
                        f"model '{model.name}' did not answer in its time",
                        status=AttemptStatus.TIMEOUT,
                        retry=False,
                    )
                except ProviderError as error:
                    failure = error
                except asyncio.CancelledError:
                    attempt.cancel()
                    raise
                attempt.fail(failure)
                passed.learn(model, failure)
                if failure.status is AttemptStatus.CONTEXT_WINDOW:
                    rest = deque(passed.wider_first(rest))
                if not failure.next_model:
                    raise RequestRefused(failure, log.attempts) from failure
                wait_s = self._wait_s(failure, retry)
                if wait_s is None or wait_s >= ends_at - keep_s - self._clock.monotonic_s():
                    break
                await self._sleep(wait_s)
        late = self._clock.monotonic_s() >= ends_at
        if passed.too_dear and not late:
            raise CostLimitReached(
                f"no model answered, and one more call would exceed the {budget.limit_usd:.3g} "
                "dollars that all calls of this request may cost; raise max_cost_usd",
                log.attempts,
            ) from failure
        raise _end_of_chain(log.attempts, total_s, late=late) from failure

    def _order(self, names: Sequence[str]) -> list[ModelConfig]:
        """The chain as it will be walked: at most max_models, then the last resorts.

        Cooling models are passed over, the first excepted (the policy knew, or the caller
        named it); where there is no last resort they come at the end instead.
        """
        models = [self._models[name] for name in dict.fromkeys(names)]
        last_resorts = [model for model in models if model.last_resort]
        others = [model for model in models if not model.last_resort]
        ready = others[:1]
        cooling: list[ModelConfig] = []
        for model in others[1:]:
            (ready if self._breakers.is_closed(model.name) else cooling).append(model)
        return (ready + ([] if last_resorts else cooling))[: self._config.max_models] + last_resorts

    def _grant(self, model: ModelConfig, body: Mapping[str, Any]) -> Grant | None:
        """Leave to send a request, or None where the model's rate limit is used up. A last resort
        is always left to: it must not need the database, where limits are counted."""
        if self._limits is None or model.last_resort or not self._limits.holds(model.name):
            return FREE
        return self._limits.take(model.name, most_tokens(body))

    def _call(
        self,
        body: Mapping[str, Any],
        context: Mapping[str, str],
        operation: Operation,
        begin_within_s: float,
        end_within_s: float,
    ) -> ModelCall:
        return ModelCall(
            body=body,
            timeout_s=end_within_s,
            first_token_timeout_s=min(self._config.first_token_timeout_s, begin_within_s),
            idle_timeout_s=min(self._config.idle_timeout_s, end_within_s),
            context=context,
            operation=operation,
        )

    def _wait_s(self, failure: ProviderError, retry: int) -> float | None:
        """Seconds before the same model is tried again; None sends on to the next model."""
        if not failure.retry or retry >= self._config.num_retries:
            return None
        hint_s = failure.retry_after_s or 0.0
        if hint_s > self._config.max_backoff_s:
            return None
        backoff_s = min(self._config.max_backoff_s, self._config.backoff_s * 2.0**retry)
        # Half fixed, half random: clients that failed together do not return together.
        return max(hint_s, backoff_s * (0.5 + 0.5 * self._rng.random()))


class _PassedOver:
    """Which models further down the chain would fail as one before them did."""

    def __init__(self) -> None:
        self.too_dear = False
        self._window_tokens = 0
        self._keys: set[tuple[str, str | None]] = set()

    def learn(self, model: ModelConfig, failure: ProviderError) -> None:
        if failure.status is AttemptStatus.CONTEXT_WINDOW:
            self._window_tokens = max(self._window_tokens, model.context_window_tokens)
        if failure.key_at_fault and model.api_key_env is not None:
            self._keys.add((model.api_key_env, model.base_url))

    def holds(self, model: ModelConfig) -> bool:
        """What was too long for one window is so for every smaller one; a key that was refused
        is so for every model that shows it."""
        if model.context_window_tokens < self._window_tokens:
            return True
        return model.api_key_env is not None and (model.api_key_env, model.base_url) in self._keys

    def wider_first(self, models: Iterable[ModelConfig]) -> list[ModelConfig]:
        """Models with more room than the one that had too little, then the others."""
        return sorted(
            models,
            key=lambda m: (m.last_resort, m.context_window_tokens <= self._window_tokens),
        )


def _end_of_chain(attempts: Sequence[Attempt], total_s: float, *, late: bool) -> AllModelsFailed:
    trail = "; ".join(f"{attempt.model}: {attempt.status}" for attempt in attempts)
    if late:
        return DeadlineExceeded(
            f"no model answered within the chain's deadline of {total_s:.3g} s ({trail}); "
            "raise fallback.deadline_s or lower fallback.attempt_timeout_s",
            attempts,
        )
    return AllModelsFailed(
        f"every model of the chain failed ({trail or 'the chain was empty'}); "
        "a local model with last_resort = true would have answered",
        attempts,
    )
