"""The one tree of errors. Only ``service`` knows which HTTP status each becomes.

RouterError
├── ConfigError             the TOML file, or a value in it
├── InvalidRequest          something the caller sent
│   ├── UnknownModel
│   ├── UnknownMetric
│   ├── UnknownDecision
│   ├── InvalidFeedback
│   └── IdempotencyConflict
├── LimitExceeded           a key's or tenant's requests, tokens or dollars are used up
├── NoEligibleModel         constraints leave nothing to choose from
├── AllModelsFailed         the whole chain failed, the last resort included
├── DeadlineExceeded        the chain's one deadline passed
├── CostLimitReached        the chain's one cost budget is spent
├── ProviderError           one attempt failed; carries what the chain needs to know
│   └── RequestRefused      an upstream found the request itself at fault; the chain stopped
├── StoreError              the database
│   ├── StoreUnavailable
│   └── EmbeddedPostgresError
├── SnapshotError           a learned state that does not fit what reads it
├── DataError               a data file for simulation
├── RemoteError             a running router did not do what the command line asked
└── DemoError               the demo's service did not do what it should
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line needs the errors at once, and numpy only when it works
    from bandit_router.limits import Headroom
    from bandit_router.types import Attempt, AttemptStatus, MaskReason


class RouterError(Exception):
    """Root of every error this project raises on purpose. The message carries the remedy."""


class ConfigError(RouterError):
    """The configuration cannot be used; the message names file, key and remedy.

    problems: the same, one sentence for each thing that is wrong.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class InvalidRequest(RouterError):
    """The caller sent something that cannot be used; ``param`` names the field, if one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(InvalidRequest):
    """A model name that the configuration does not have."""


class UnknownMetric(InvalidRequest):
    """A metric that no ``[rewards.<metric>]`` table declares."""


class UnknownDecision(InvalidRequest):
    """A decision id that the log does not have."""


class InvalidFeedback(InvalidRequest):
    """A feedback value of the wrong type or out of its metric's range."""


class IdempotencyConflict(InvalidRequest):
    """An idempotency key that was used before with another body."""


class LimitExceeded(RouterError):
    """A limit in a window is used up. what: requests, tokens or usd. headroom: what is left of
    this and the caller's other limits."""

    def __init__(
        self,
        message: str,
        *,
        what: str,
        retry_after_s: float,
        headroom: tuple[Headroom, ...] = (),
    ) -> None:
        super().__init__(message)
        self.what = what
        self.retry_after_s = retry_after_s
        self.headroom = headroom


class NoEligibleModel(RouterError):
    """Constraints leave no model to choose from; ``masked`` has the reason per model."""

    def __init__(self, message: str, *, masked: Mapping[str, MaskReason] | None = None) -> None:
        super().__init__(message)
        self.masked = dict(masked or {})


class AllModelsFailed(RouterError):
    """Every model of the chain failed; ``attempts`` says how."""

    def __init__(self, message: str, attempts: Sequence[Attempt]) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class DeadlineExceeded(AllModelsFailed):
    """The chain's deadline passed before any model answered."""


class CostLimitReached(AllModelsFailed):
    """One more call would have cost more than all calls of the request may."""


class ProviderError(RouterError):
    """One call of one model failed.

    retry: whether the same model may be tried again. next_model: whether another model may
    answer where this one could not. retry_after_s: the server's own hint, if it gave one.
    body: the upstream's error body, to be handed on where the caller is at fault.
    key_at_fault: the API key was refused or is used up, whichever model it was shown for.
    """

    def __init__(
        self,
        message: str,
        *,
        status: AttemptStatus,
        retry: bool,
        next_model: bool = True,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        body: bytes | None = None,
        key_at_fault: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry
        self.next_model = next_model
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.body = body
        self.key_at_fault = key_at_fault


class RequestRefused(ProviderError):
    """An upstream found the request itself at fault, so the chain stopped there.

    ``body`` is the upstream's own error, to be handed on; ``attempts`` is the way there.
    """

    def __init__(self, refusal: ProviderError, attempts: Sequence[Attempt]) -> None:
        super().__init__(
            str(refusal),
            status=refusal.status,
            retry=False,
            next_model=False,
            http_status=refusal.http_status,
            retry_after_s=refusal.retry_after_s,
            body=refusal.body,
        )
        self.attempts = tuple(attempts)


class StoreError(RouterError):
    """The database refused or lost something."""


class StoreUnavailable(StoreError):
    """The database cannot be reached."""


class EmbeddedPostgresError(StoreError):
    """The embedded server cannot be started on its data directory."""


class SnapshotError(RouterError):
    """A snapshot that does not fit the code or the configuration that reads it."""


class DataError(RouterError):
    """A data file that cannot be used; the message names the column or row and the remedy."""


class DemoError(RouterError):
    """The service that the demo started did not do what it should; the message quotes its log."""


class RemoteError(RouterError):
    """A running router refused, or does not answer; the message has its own words."""
