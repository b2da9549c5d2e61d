"""The book of one decision's attempts: what was called, how it ended, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from bandit_router.breakers import Breakers
from bandit_router.config import ModelConfig
from bandit_router.errors import ProviderError
from bandit_router.prices import cost_of, estimate_input_tokens
from bandit_router.protocols import Clock, StreamPiece, Usage
from bandit_router.request_text import messages_of
from bandit_router.types import Attempt, AttemptStatus, Outcome
from bandit_router.upstream_limits import FREE, Grant

# A provider that refuses before it has read the request counts none of its tokens.
UNCOUNTED = frozenset({AttemptStatus.CONNECT_ERROR, AttemptStatus.RATE_LIMITED})


class AttemptLog:
    """Attempts of one decision in the order they were made, and the outcome they add up to."""

    def __init__(self, decision_id: UUID, *, clock: Clock, breakers: Breakers) -> None:
        self.decision_id = decision_id
        self._clock = clock
        self._breakers = breakers
        self._attempts: list[Attempt] = []
        self._finished_at: datetime | None = None
        self.handed_on = False

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(self._attempts)

    def open(
        self, model: ModelConfig, body: Mapping[str, Any], grant: Grant | None = FREE
    ) -> OpenAttempt:
        """Begin one call; it enters the log when it ends. grant: None where the model's rpm or
        tpm leaves no room for it."""
        return OpenAttempt(self, model, body, self._clock, self._breakers, grant)

    def add(self, attempt: Attempt) -> None:
        self._attempts.append(attempt)
        self._finished_at = self._clock.now()

    def outcome(self) -> Outcome:
        """The outcome of the attempts so far: who answered, and what all of them cost.

        Without attempts (the task was cancelled before the first) the status is CANCELLED.
        A stream that broke or was left after a piece of it had been handed on was answered by
        its model.
        """
        finished_at = self._finished_at or self._clock.now()
        if not self._attempts:
            return Outcome(self.decision_id, None, AttemptStatus.CANCELLED, finished_at, 0.0, 0)
        last = self._attempts[-1]
        costs = [a.cost_usd for a in self._attempts if a.cost_usd is not None]
        answered = last.status is AttemptStatus.OK or self.handed_on
        return Outcome(
            decision_id=self.decision_id,
            answered_by=last.model if answered else None,
            status=last.status,
            finished_at=finished_at,
            latency_s=last.latency_s,
            attempts=len(self._attempts),
            first_token_s=last.first_token_s,
            input_tokens=last.input_tokens,
            output_tokens=last.output_tokens,
            cost_usd=sum(costs) if costs else None,
        )


class OpenAttempt:
    """One call under way. The first of succeed, fail and cancel counts, later ones do not."""

    def __init__(
        self,
        log: AttemptLog,
        model: ModelConfig,
        body: Mapping[str, Any],
        clock: Clock,
        breakers: Breakers,
        grant: Grant | None,
    ) -> None:
        self.model = model
        self._log = log
        self._body = body
        self._clock = clock
        self._breaker = breakers.begin(model.name)
        self._grant = grant
        self._started_at = clock.now()
        self._started_s = clock.monotonic_s()
        self._first_token_s: float | None = None
        self._pieces = 0
        self._usage: Usage | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it is in the log."""
        return self._ended

    def check_granted(self, *, retry: bool) -> None:
        """Raise ProviderError where the rate limit leaves no room; nothing is sent then.

        retry: whether the same model is worth a second try a moment later.
        """
        if self._grant is None:
            raise ProviderError(
                f"model '{self.model.name}' was not called: its rpm or tpm is used up",
                status=AttemptStatus.HELD_BACK,
                retry=retry,
            )

    def see(self, piece: StreamPiece) -> None:
        """Note one piece of a stream."""
        if self._first_token_s is None and piece.content:
            self._first_token_s = self._clock.monotonic_s() - self._started_s
        self._pieces += 1
        if piece.usage is not None:
            self._usage = piece.usage

    def succeed(self, usage: Usage | None = None) -> None:
        """The model answered to the end."""
        if self._ended:
            return
        self._breaker.succeed()
        self._end(AttemptStatus.OK, usage or self._usage or Usage())

    def fail(self, error: ProviderError) -> None:
        """The model failed, before or within its answer."""
        if self._ended:
            return
        if self._grant is None:
            # Our own limit says nothing of the model's health.
            self._breaker.leave()
        else:
            self._breaker.fail(error)
        self._end(error.status, self._partial_usage(), error)

    def cancel(self) -> None:
        """The caller went away."""
        if not self._ended:
            self._breaker.leave()
            self._end(AttemptStatus.CANCELLED, self._partial_usage())

    def _partial_usage(self) -> Usage | None:
        """What a stream that ended early used: an estimate, a token a piece, where the
        upstream had not said. None where nothing was answered."""
        if self._usage is not None or self._pieces == 0:
            return self._usage
        return Usage(
            input_tokens=estimate_input_tokens(messages_of(self._body)),
            output_tokens=self._pieces,
        )

    def _end(
        self, status: AttemptStatus, usage: Usage | None, error: ProviderError | None = None
    ) -> None:
        self._ended = True
        if self._grant is not None:
            self._grant.settle(_tokens_used(status, usage))
        latency_s = self._clock.monotonic_s() - self._started_s
        self._log.add(
            Attempt(
                decision_id=self._log.decision_id,
                position=len(self._log.attempts),
                model=self.model.name,
                status=status,
                started_at=self._started_at,
                latency_s=latency_s,
                first_token_s=self._first_token_s,
                http_status=error.http_status if error else None,
                input_tokens=usage.input_tokens if usage else None,
                output_tokens=usage.output_tokens if usage else None,
                cost_usd=cost_of(self.model, usage, latency_s) if usage else None,
                error=str(error) if error else None,
            )
        )


def _tokens_used(status: AttemptStatus, usage: Usage | None) -> int | None:
    """Tokens that count towards the model's tpm; None, for what was reserved, where nobody told."""
    if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
        return usage.input_tokens + usage.output_tokens
    return 0 if status in UNCOUNTED else None
