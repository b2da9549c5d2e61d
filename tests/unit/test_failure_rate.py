"""Bets on how often a model's calls fail, and what failed calls do to the learned state."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router import alarms, failure_rate
from bandit_router.alarms import FAILURE, At, Watch, changes, empty_watch, watch_floor
from bandit_router.learning import fold, init_state
from tests.core_samples import folded, make_policy, make_problem, make_row, make_rows

POLICY = make_policy()


def alarms_of(failed: np.ndarray, watch: Watch | None = None) -> list[int]:
    """The calls at which the alarm was raised that the first arm fails more often."""
    watch = empty_watch(1) if watch is None else watch
    raised = []
    for call, one in enumerate(failed):
        before = watch.raised_at
        watch = failure_rate.after_call(watch, 0, bool(one), At(call, call))
        if watch.raised_at is not before and watch.evidence[0, FAILURE] > 0.0:
            raised.append(call)
    return raised


def warm(calls: int, rate: float = 0.0) -> Watch:
    watch = empty_watch(1)
    for call in range(calls):
        watch = failure_rate.after_call(watch, 0, (call + 1) * rate % 1.0 < rate, At(call, call))
    return watch


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.2])
def test_a_steady_rate_raises_alarms_less_often_than_stated(rate: float) -> None:
    # Stated: at most one in ODDS calls a side, once the rate is known; its being learned is the
    # tolerance's and the sd's part. 10 streams of 1,000 calls would allow 1.
    rng = np.random.default_rng(4)
    known = warm(500, rate)
    found = [alarms_of(rng.random(1_000) < rate, known) for _ in range(10)]
    assert sum(map(len, found)) <= 1


@pytest.mark.parametrize(("calls_before", "most"), [(0, 15), (30, 5), (300, 4)])
def test_an_outage_is_noticed_within_a_handful_of_calls(calls_before: int, most: int) -> None:
    assert alarms_of(np.ones(20), warm(calls_before))[0] < most


def test_a_model_that_fails_every_fifth_time_is_noticed_within_tens_of_calls() -> None:
    rng = np.random.default_rng(5)
    delays = [alarms_of(rng.random(400) < 0.2, warm(300))[0] for _ in range(20)]
    assert np.median(delays) <= 40
    assert max(delays) <= 120


def test_the_alarm_ends_when_calls_succeed_again() -> None:
    watch = warm(300)
    for call in range(300, 330):
        watch = failure_rate.after_call(watch, 0, True, At(call, call))
    (change,) = changes(watch, 330)
    assert (change.kind, change.risen) == ("failure", True)
    assert failure_rate.rates(watch)[0] > 0.5
    for call in range(330, 400):
        watch = failure_rate.after_call(watch, 0, False, At(call, call))
    assert changes(watch, 400) == ()


def test_an_outage_leaves_what_is_known_of_quality_and_cost_alone() -> None:
    problem = make_problem(("old", "other"), budget_usd=1e-3)
    before = folded(problem, POLICY, make_rows(problem, 200))
    after = before
    for seq in range(200, 220):
        row = make_row(seq, "old", np.zeros(4), cost_usd=2e-3, failed=True)
        after = fold(problem, POLICY, after, row)
    (change,) = changes(after.watch, after.pacer.paid)
    assert (change.arm, change.kind, change.risen) == (0, "failure", True)
    np.testing.assert_array_equal(after.policy.means, before.policy.means)
    np.testing.assert_array_equal(after.effort.amount.means, before.effort.amount.means)
    # What the failed calls cost is owed, and no request is paid for by them.
    assert before.pacer.account_usd - after.pacer.account_usd == pytest.approx(20 * 2e-3)
    assert after.pacer.paid == before.pacer.paid
    # Looking more often at a model that does not answer would help nobody.
    assert watch_floor(after.watch, after.pacer.paid).tolist() == [0.0, 0.0]


def test_calls_that_were_left_and_rows_without_a_call_are_no_bets() -> None:
    problem = make_problem(("old", "other"))
    state = init_state(problem, POLICY)
    for row in (
        make_row(0, "old", np.zeros(4), reward=0.5),
        make_row(1, "old", np.zeros(4), cost_usd=1e-4, failed=False),
    ):
        state = fold(problem, POLICY, state, row)
    assert state.watch.rows[:, alarms.FAILURE].tolist() == [0.0, 0.0]
    # Retries fail together: the answer after them is one call that failed.
    answered = make_row(2, "old", np.zeros(4), cost_usd=1e-4, latency_s=1.0, failed=True)
    state = fold(problem, POLICY, state, answered)
    assert state.watch.rows[0, alarms.FAILURE] == state.watch.failed[0] == 1.0
    assert state.pulls.tolist() == [1.0, 0.0]
