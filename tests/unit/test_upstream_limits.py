"""What a replica may send out of the slices it leased, on a clock that the test turns."""

from __future__ import annotations

import pytest
from test_breakers import TurnedClock

from bandit_router.config import ModelConfig
from bandit_router.upstream_limits import FREE, RENEW_S, UpstreamLimits

LEASE_S = 5.0


def model(name: str, **limits: int) -> ModelConfig:
    return ModelConfig(name=name, base_url="http://x/v1", **limits)


def limits_of(clock: TurnedClock, *models: ModelConfig) -> UpstreamLimits:
    return UpstreamLimits({one.name: one for one in models}, clock)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def test_a_model_without_limits_takes_everything_and_leases_nothing(clock: TurnedClock) -> None:
    limits = limits_of(clock, model("free"))
    assert limits.admits("free", 10**9)
    assert limits.take("free", 10**9) is FREE
    assert (limits.needs(), limits.ended(), limits.left("free")) == ([], [], None)


def test_nothing_is_sent_without_a_slice_and_no_more_than_the_slice_holds(
    clock: TurnedClock,
) -> None:
    limits = limits_of(clock, model("small", rpm=100, tpm=10_000))
    assert not limits.admits("small", 10)
    limits.lease("small", 1, 2, 500, LEASE_S)
    assert limits.left("small") == {"requests": 2, "tokens": 500}
    assert limits.take("small", 400) is not None
    assert limits.take("small", 400) is None
    assert limits.take("small", 100) is not None
    assert limits.take("small", 0) is None


def test_a_slice_ends_with_its_lease_and_what_is_left_goes_back(clock: TurnedClock) -> None:
    limits = limits_of(clock, model("small", rpm=100, tpm=10_000))
    limits.lease("small", 1, 5, 500, LEASE_S)
    limits.take("small", 100)
    clock.seconds += LEASE_S
    assert not limits.admits("small", 1)
    assert limits.left("small") == {"requests": 0, "tokens": 0}
    (unused,) = limits.ended()
    assert (unused.lease_id, unused.requests, unused.tokens) == (1, 4, 400)
    assert limits.ended() == []


def test_a_burst_asks_for_room_for_all_that_was_held_back(clock: TurnedClock) -> None:
    told: list[str] = []
    limits = limits_of(clock, model("small", rpm=60))
    limits.short = lambda: told.append("short")
    for _ in range(10):
        assert limits.take("small", 20) is None
    (need,) = limits.needs()
    assert (need.requests, len(told)) == (3 + 10, 10)
    limits.lease("small", 1, need.requests, need.tokens, LEASE_S)
    assert limits.needs() == []
    clock.seconds += LEASE_S - RENEW_S
    assert [need.requests for need in limits.needs()] == [3]


def test_tokens_used_beyond_the_estimate_are_charged_and_saved_ones_come_back_to_their_lease(
    clock: TurnedClock,
) -> None:
    limits = limits_of(clock, model("small", tpm=10_000))
    limits.lease("small", 1, 100, 1000, LEASE_S)
    saving, wasteful, late = (limits.take("small", 200) for _ in range(3))
    assert saving is not None
    assert wasteful is not None
    assert late is not None
    saving.settle(50)
    saving.settle(0)
    assert limits.left("small") == {"requests": None, "tokens": 550}
    wasteful.settle(350)
    assert limits.left("small") == {"requests": None, "tokens": 400}
    limits.lease("small", 2, 100, 1000, LEASE_S)
    late.settle(100)
    assert limits.left("small") == {"requests": None, "tokens": 1000}


def test_a_reload_keeps_slices_of_unchanged_limits_and_gives_the_others_back(
    clock: TurnedClock,
) -> None:
    limits = limits_of(clock, model("kept", rpm=100), model("changed", rpm=100))
    limits.lease("kept", 1, 5, 10, LEASE_S)
    limits.lease("changed", 2, 5, 10, LEASE_S)
    limits.follow({"kept": model("kept", rpm=100), "changed": model("changed", rpm=50)})
    assert limits.admits("kept", 1)
    assert not limits.admits("changed", 1)
    assert [unused.lease_id for unused in limits.ended()] == [2]
    (late,) = limits.lease("gone", 3, 7, 70, LEASE_S)
    assert (late.lease_id, late.requests, late.tokens) == (3, 7, 70)
