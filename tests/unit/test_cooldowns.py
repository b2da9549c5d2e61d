"""Cool-downs on a clock that the test turns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bandit_router.cooldowns import Cooldowns, counts_against_model
from bandit_router.errors import ProviderError
from bandit_router.types import AttemptStatus


class TurnedClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds


def failure(
    status: AttemptStatus = AttemptStatus.SERVER_ERROR,
    *,
    retry_after_s: float | None = None,
    http_status: int | None = None,
) -> ProviderError:
    return ProviderError(
        "it broke",
        status=status,
        retry=True,
        retry_after_s=retry_after_s,
        http_status=http_status,
    )


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def cooldowns(clock: TurnedClock) -> Cooldowns:
    return Cooldowns(clock, allowed_fails=3, cooldown_time_s=30.0)


def test_model_cools_down_at_the_allowed_number_of_failures_in_a_row(cooldowns, clock):
    for _ in range(2):
        cooldowns.record_failure("m", failure())
    assert cooldowns.cooling("m") is None
    cooldowns.record_failure("m", failure())
    cooling = cooldowns.cooling("m")
    assert cooling.until_monotonic_s == clock.seconds + 30.0
    assert cooling.reason == "server_error: it broke"
    assert cooling.consecutive_fails == 3
    assert cooldowns.cooling("other") is None


def test_success_between_failures_starts_the_count_anew(cooldowns):
    for _ in range(5):
        cooldowns.record_failure("m", failure())
        cooldowns.record_failure("m", failure())
        cooldowns.record_success("m")
    assert cooldowns.cooling("m") is None


def test_cooldown_ends_with_time_and_returns_with_the_next_failure(cooldowns, clock):
    for _ in range(3):
        cooldowns.record_failure("m", failure())
    clock.seconds += 30.0
    assert cooldowns.cooling("m") is None
    cooldowns.record_failure("m", failure())
    assert cooldowns.cooling("m") is not None
    cooldowns.record_success("m")
    assert cooldowns.cooling("m") is None


def test_retry_after_cools_down_at_once_and_is_never_shortened(cooldowns, clock):
    cooldowns.record_failure("m", failure(AttemptStatus.RATE_LIMITED, retry_after_s=90.0))
    assert cooldowns.cooling("m").until_monotonic_s == clock.seconds + 90.0
    cooldowns.record_failure("m", failure(AttemptStatus.RATE_LIMITED, retry_after_s=1.0))
    assert cooldowns.cooling("m").until_monotonic_s == clock.seconds + 90.0


@pytest.mark.parametrize(
    "status", [AttemptStatus.CONTEXT_WINDOW, AttemptStatus.REJECTED, AttemptStatus.CANCELLED]
)
def test_failures_of_the_request_do_not_count_against_the_model(cooldowns, status):
    for _ in range(10):
        cooldowns.record_failure("m", failure(status))
    assert cooldowns.cooling("m") is None
    assert cooldowns.reliability("m") == 1.0


def test_missing_model_counts_against_it():
    assert counts_against_model(failure(AttemptStatus.REJECTED, http_status=404))
    assert not counts_against_model(failure(AttemptStatus.REJECTED, http_status=400))


def test_reliability_is_the_smoothed_success_rate(cooldowns):
    assert cooldowns.reliability("untried") == 1.0
    cooldowns.record_failure("m", failure())
    assert cooldowns.reliability("m") == pytest.approx(0.95)
    cooldowns.record_success("m")
    assert cooldowns.reliability("m") == pytest.approx(0.95 + 0.05 * 0.05)
    for count in range(2000):
        if count % 4 == 0:
            cooldowns.record_failure("m", failure())
        else:
            cooldowns.record_success("m")
    assert cooldowns.reliability("m") == pytest.approx(0.75, abs=0.03)
