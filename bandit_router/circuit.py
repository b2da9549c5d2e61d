"""A circuit breaker: closed, open, half open; pure arithmetic on times that are handed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from bandit_router.config import FallbackConfig

# A hint beyond this is a mistake, or a day's quota that probes will find restored.
LONGEST_HINT_S = 3600.0
# More calls than this in a window say nothing new about the rate.
MOST_CALLS_KEPT = 2_000
MOST_DOUBLINGS = 20


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit opens, and how it closes again.

    allowed_fails: failures in a row. failure_rate: share of the calls of the last window_s, of
    which there must be minimum_calls. cooldown_time_s doubles with every failed probe, up to
    max_cooldown_s. probe_share: of the decisions that may choose a half-open model.
    """

    allowed_fails: int = 3
    cooldown_time_s: float = 30.0
    max_cooldown_s: float = 600.0
    failure_rate: float = 0.5
    window_s: float = 60.0
    minimum_calls: int = 20
    probe_share: float = 0.1


def settings_of(config: FallbackConfig) -> BreakerSettings:
    """The settings that ``[fallback]`` holds."""
    return BreakerSettings(
        allowed_fails=config.allowed_fails,
        cooldown_time_s=config.cooldown_time_s,
        max_cooldown_s=config.max_cooldown_s,
        failure_rate=config.failure_rate,
        window_s=config.failure_window_s,
        minimum_calls=config.minimum_calls,
        probe_share=config.probe_share,
    )


@dataclass(frozen=True, slots=True)
class CircuitView:
    """A circuit as it stands. reason: what opened it, None while closed. for_s: seconds until
    it turns half open. failure_rate: of the window's calls, None without any."""

    state: CircuitState
    reason: str | None
    for_s: float
    consecutive_fails: int
    calls: int
    failure_rate: float | None
    openings: int


class Circuit:
    """One circuit. All times are seconds on one monotonic clock.

    A call that began before the circuit opened neither closes nor opens it anew: it tells of
    the time before. One probe at a time goes through a half-open circuit.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._consecutive_fails = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._openings = 0
        self._opened_s = 0.0
        self._open_until_s: float | None = None
        self._reason: str | None = None
        self._probing = False

    @property
    def is_closed(self) -> bool:
        return self._open_until_s is None

    def state(self, now_s: float) -> CircuitState:
        if self._open_until_s is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now_s < self._open_until_s else CircuitState.HALF_OPEN

    def admits(self, now_s: float, uniform: float) -> bool:
        """Whether a decision may choose what is behind the circuit.

        Where nobody has probed for another cool-down's length, every decision may: with little
        traffic a share of it would take too long to find the model well again.
        """
        if self._open_until_s is None:
            return True
        if now_s < self._open_until_s or self._probing:
            return False
        overdue = now_s >= self._open_until_s + self._settings.cooldown_time_s
        return overdue or uniform < self._settings.probe_share

    def begin_probe(self, now_s: float) -> bool:
        """Take the one place for a probe; False where there is none or none is needed."""
        if self._probing or self.state(now_s) is not CircuitState.HALF_OPEN:
            return False
        self._probing = True
        return True

    def end_probe(self) -> None:
        self._probing = False

    def succeeded(self, now_s: float, began_s: float) -> None:
        """A call ended well."""
        if self._open_until_s is not None:
            if began_s < self._opened_s:
                return
            self.close()
        self._consecutive_fails = 0
        self._count(now_s, failed=False)

    def failed(
        self,
        now_s: float,
        began_s: float,
        reason: str,
        retry_after_s: float | None = None,
        *,
        fatal: bool = False,
    ) -> None:
        """A call ended badly. retry_after_s: the upstream's own hint, which opens at once.
        fatal: opens at once too."""
        self._consecutive_fails += 1
        self._count(now_s, failed=True)
        hint_s = min(retry_after_s or 0.0, LONGEST_HINT_S)
        state = self.state(now_s)
        if state is CircuitState.OPEN:
            # Only the upstream's own word prolongs a rest that has begun.
            if hint_s and self._open_until_s is not None and now_s + hint_s > self._open_until_s:
                self._open_until_s, self._reason = now_s + hint_s, reason
            return
        if state is CircuitState.HALF_OPEN:
            if began_s < self._opened_s:
                return
        elif not (fatal or hint_s or self._too_many(now_s)):
            return
        self.open_for(now_s, hint_s or self._cooldown_s(), reason)

    def open_for(self, now_s: float, for_s: float, reason: str) -> None:
        """Open, whatever the state was."""
        self._openings += 1
        self._opened_s, self._open_until_s, self._reason = now_s, now_s + for_s, reason

    def close(self) -> None:
        """Close, and forget what opened it."""
        self._open_until_s = self._reason = None
        self._openings = self._consecutive_fails = self._failures = 0
        self._calls.clear()

    def view(self, now_s: float) -> CircuitView:
        self._forget(now_s)
        count = len(self._calls)
        return CircuitView(
            state=self.state(now_s),
            reason=self._reason,
            for_s=0.0 if self._open_until_s is None else max(0.0, self._open_until_s - now_s),
            consecutive_fails=self._consecutive_fails,
            calls=count,
            failure_rate=self._failures / count if count else None,
            openings=self._openings,
        )

    def _cooldown_s(self) -> float:
        doubled = self._settings.cooldown_time_s * 2.0 ** min(self._openings, MOST_DOUBLINGS)
        return min(doubled, max(self._settings.max_cooldown_s, self._settings.cooldown_time_s))

    def _too_many(self, now_s: float) -> bool:
        if self._consecutive_fails >= self._settings.allowed_fails:
            return True
        self._forget(now_s)
        count = len(self._calls)
        return (
            count >= self._settings.minimum_calls
            and self._failures >= self._settings.failure_rate * count
        )

    def _count(self, now_s: float, *, failed: bool) -> None:
        self._calls.append((now_s, failed))
        self._failures += failed
        if len(self._calls) > MOST_CALLS_KEPT:
            self._drop()
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._calls and self._calls[0][0] < now_s - self._settings.window_s:
            self._drop()

    def _drop(self) -> None:
        _, failed = self._calls.popleft()
        self._failures -= failed
