"""Which models are left alone for a while after failing, and how reliable each has been."""

from __future__ import annotations

from dataclasses import dataclass

from bandit_router.errors import ProviderError
from bandit_router.protocols import Clock
from bandit_router.types import AttemptStatus

# Context windows, content filters and malformed requests say nothing about the model's health.
FAULTS = frozenset(
    {
        AttemptStatus.CONNECT_ERROR,
        AttemptStatus.TIMEOUT,
        AttemptStatus.RATE_LIMITED,
        AttemptStatus.SERVER_ERROR,
        AttemptStatus.BAD_RESPONSE,
        AttemptStatus.AUTHENTICATION,
        AttemptStatus.STREAM_BROKEN,
    }
)
MODEL_NOT_FOUND = 404
# Weight of the newest attempt in the success rate: about the last twenty attempts count.
RELIABILITY_STEP = 0.05
RELIABILITY_OF_UNTRIED = 1.0


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Why a model is left alone, and until when on the monotonic clock."""

    reason: str
    until_monotonic_s: float
    consecutive_fails: int


@dataclass(slots=True)
class _Health:
    consecutive_fails: int = 0
    reliability: float = RELIABILITY_OF_UNTRIED
    cooldown: Cooldown | None = None


def counts_against_model(error: ProviderError) -> bool:
    """Whether a failure says something about the model, not about the request."""
    return error.status in FAULTS or error.http_status == MODEL_NOT_FOUND


class Cooldowns:
    """Per-model cool-down after allowed_fails failures in a row, or as long as the model asks.

    A model that fails again right after its cool-down cools down again at once: only a
    success clears the count. Holds state for one process; reads only the handed-in clock.
    """

    def __init__(self, clock: Clock, *, allowed_fails: int, cooldown_time_s: float) -> None:
        self._clock = clock
        self._allowed_fails = allowed_fails
        self._cooldown_time_s = cooldown_time_s
        self._health: dict[str, _Health] = {}

    def record_success(self, model: str) -> None:
        """Note an answered attempt: ends any cool-down."""
        health = self._health.setdefault(model, _Health())
        health.consecutive_fails = 0
        health.cooldown = None
        health.reliability += RELIABILITY_STEP * (1.0 - health.reliability)

    def record_failure(self, model: str, error: ProviderError) -> None:
        """Note a failed attempt; failures that are the request's own fault are passed over.

        A Retry-After cools the model down at once, for that long.
        """
        if not counts_against_model(error):
            return
        health = self._health.setdefault(model, _Health())
        health.consecutive_fails += 1
        health.reliability -= RELIABILITY_STEP * health.reliability
        if error.retry_after_s is not None:
            duration_s = error.retry_after_s
        elif health.consecutive_fails >= self._allowed_fails:
            duration_s = self._cooldown_time_s
        else:
            return
        until_monotonic_s = self._clock.monotonic_s() + duration_s
        if health.cooldown is not None:
            until_monotonic_s = max(until_monotonic_s, health.cooldown.until_monotonic_s)
        health.cooldown = Cooldown(
            reason=f"{error.status.value}: {error}",
            until_monotonic_s=until_monotonic_s,
            consecutive_fails=health.consecutive_fails,
        )

    def cooling(self, model: str) -> Cooldown | None:
        """The cool-down in force, or None."""
        health = self._health.get(model)
        if health is None or health.cooldown is None:
            return None
        if health.cooldown.until_monotonic_s <= self._clock.monotonic_s():
            return None
        return health.cooldown

    def reliability(self, model: str) -> float:
        """Success rate in [0, 1] of about the last twenty attempts; 1 for an untried model."""
        health = self._health.get(model)
        return RELIABILITY_OF_UNTRIED if health is None else health.reliability
