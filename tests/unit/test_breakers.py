"""Circuit breakers on a clock that the test turns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bandit_router.breakers import Breakers, counts_against_model
from bandit_router.circuit import LONGEST_HINT_S, BreakerSettings, CircuitState
from bandit_router.config import ModelConfig
from bandit_router.errors import ProviderError
from bandit_router.types import AttemptStatus


class TurnedClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds


def failure(status: AttemptStatus = AttemptStatus.SERVER_ERROR, **changes) -> ProviderError:
    return ProviderError("it broke", status=status, retry=True, **changes)


def model(name: str, key: str | None = None) -> ModelConfig:
    return ModelConfig(name=name, base_url="http://x/v1", api_key_env=key)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def breakers(clock: TurnedClock) -> Breakers:
    models = [model("m"), model("other"), model("a", "KEY"), model("b", "KEY")]
    return Breakers({m.name: m for m in models}, BreakerSettings(), clock)


def fail(breakers: Breakers, name: str, error: ProviderError | None = None) -> None:
    breakers.begin(name).fail(error or failure())


def opened(breakers: Breakers) -> None:
    for _ in range(3):
        fail(breakers, "m")
    assert breakers.state("m") is CircuitState.OPEN


def test_breaker_opens_at_the_allowed_number_of_failures_in_a_row(breakers):
    fail(breakers, "m")
    fail(breakers, "m")
    assert breakers.is_closed("m")
    fail(breakers, "m")
    health = breakers.health("m")
    assert health.state is CircuitState.OPEN
    assert health.reason == "server_error: it broke"
    assert (health.model.for_s, health.model.consecutive_fails) == (30.0, 3)
    assert not breakers.admits("m", 0.0)
    assert breakers.is_closed("other")


def test_breaker_opens_at_a_failure_rate_though_no_failures_are_in_a_row(breakers, clock):
    for _ in range(9):
        fail(breakers, "m")
        breakers.begin("m").succeed()
    breakers.begin("m").succeed()
    assert breakers.is_closed("m")  # 9 of 19
    fail(breakers, "m")
    health = breakers.health("m")
    assert (health.state, health.model.calls, health.model.failure_rate) == ("open", 20, 0.5)


def test_calls_before_the_window_do_not_count(breakers, clock):
    for _ in range(9):
        fail(breakers, "m")
        breakers.begin("m").succeed()
    clock.seconds += 61.0
    for _ in range(2):
        breakers.begin("m").succeed()
    fail(breakers, "m")
    assert breakers.is_closed("m")
    assert breakers.health("m").model.calls == 3


def test_half_open_breaker_admits_its_share_and_one_probe_at_a_time(breakers, clock):
    opened(breakers)
    clock.seconds += 30.0
    assert breakers.state("m") is CircuitState.HALF_OPEN
    assert breakers.admits("m", 0.09)
    assert not breakers.admits("m", 0.11)
    probe = breakers.begin("m")
    assert not breakers.admits("m", 0.09)
    probe.leave()
    assert breakers.admits("m", 0.09)


def test_every_decision_may_probe_once_a_probe_is_overdue(breakers, clock):
    opened(breakers)
    clock.seconds += 60.0
    assert breakers.admits("m", 0.99)
    breakers.begin("m")
    assert not breakers.admits("m", 0.99)


def test_good_probe_closes_and_a_bad_one_doubles_the_rest_up_to_its_bound(breakers, clock):
    opened(breakers)
    for rest_s in (60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        clock.seconds += breakers.health("m").model.for_s
        fail(breakers, "m")
        assert breakers.health("m").model.for_s == rest_s
    clock.seconds += 600.0
    breakers.begin("m").succeed()
    assert breakers.is_closed("m")
    assert breakers.health("m").reason is None
    opened(breakers)
    assert breakers.health("m").model.for_s == 30.0


def test_call_that_began_before_the_opening_neither_closes_nor_prolongs(breakers, clock):
    early, late = breakers.begin("m"), breakers.begin("m")
    clock.seconds += 1.0
    opened(breakers)
    early.succeed()
    assert breakers.state("m") is CircuitState.OPEN
    clock.seconds += 30.0
    late.fail(failure())
    assert breakers.state("m") is CircuitState.HALF_OPEN


def test_retry_after_opens_at_once_is_never_shortened_and_has_a_bound(breakers):
    fail(breakers, "m", failure(AttemptStatus.RATE_LIMITED, retry_after_s=90.0))
    assert breakers.health("m").model.for_s == 90.0
    fail(breakers, "m", failure(AttemptStatus.RATE_LIMITED, retry_after_s=1.0))
    assert breakers.health("m").model.for_s == 90.0
    fail(breakers, "other", failure(AttemptStatus.RATE_LIMITED, retry_after_s=1e9))
    assert breakers.health("other").model.for_s == LONGEST_HINT_S


def test_refused_key_rests_every_model_that_shows_it_and_no_other(breakers, clock):
    refused = failure(AttemptStatus.AUTHENTICATION, http_status=401, key_at_fault=True)
    fail(breakers, "a", refused)
    assert [breakers.is_closed(name) for name in ("a", "b", "m")] == [False, False, True]
    health = breakers.health("b")
    assert health.model.state is CircuitState.CLOSED
    assert health.reason == "authentication: it broke"
    clock.seconds += 30.0
    probe = breakers.begin("b")
    assert not breakers.admits("a", 0.0)  # one probe for the key, whichever model makes it
    probe.succeed()
    assert breakers.is_closed("a")


def test_failure_of_one_model_leaves_its_key_alone(breakers):
    for _ in range(3):
        fail(breakers, "a", failure(AttemptStatus.AUTHENTICATION, http_status=403))
    assert not breakers.is_closed("a")
    assert breakers.is_closed("b")


@pytest.mark.parametrize("status", ["context_window", "content_filter", "rejected", "cancelled"])
def test_failures_of_the_request_do_not_count_against_the_model(breakers, status):
    for _ in range(10):
        fail(breakers, "m", failure(AttemptStatus(status)))
    assert breakers.is_closed("m")
    assert breakers.reliability("m") == 1.0


def test_missing_model_counts_against_it():
    assert counts_against_model(failure(AttemptStatus.REJECTED, http_status=404))
    assert not counts_against_model(failure(AttemptStatus.REJECTED, http_status=400))


def test_breaker_can_be_opened_and_closed_by_hand(breakers, clock):
    breakers.trip("a", "maintenance", 300.0)
    assert breakers.health("a").reason == "maintenance"
    assert breakers.is_closed("b")
    breakers.reset("a")
    assert breakers.is_closed("a")


def test_reliability_is_the_smoothed_success_rate(breakers):
    assert breakers.reliability("untried") == 1.0
    fail(breakers, "m")
    assert breakers.reliability("m") == pytest.approx(0.95)
    breakers.begin("m").succeed()
    assert breakers.reliability("m") == pytest.approx(0.95 + 0.05 * 0.05)
    for count in range(2000):
        if count % 4 == 0:
            fail(breakers, "m")
        else:
            breakers.begin("m").succeed()
    assert breakers.reliability("m") == pytest.approx(0.75, abs=0.03)
