from __future__ import annotations

import numpy as np

from bandit_router.activity import MOST_KEPT, ActivityLog
from bandit_router.exploration import SECONDS_PER_DAY


def test_nothing_was_ever_tried() -> None:
    now = ActivityLog(2).at(1000.0)
    np.testing.assert_array_equal(now.pulls, [0.0, 0.0])
    np.testing.assert_array_equal(now.idle_s, [np.inf, np.inf])
    assert now.look_spend_usd == 0.0


def test_pulls_and_looks_of_the_last_day_are_counted() -> None:
    log = ActivityLog(2)
    log.pulled(0.0, 0)
    log.pulled(50.0, 1, look_cost_usd=0.25)
    log.pulled(100.0, 0, look_cost_usd=0.5)
    now = log.at(110.0)
    np.testing.assert_array_equal(now.pulls, [2.0, 1.0])
    np.testing.assert_array_equal(now.idle_s, [10.0, 60.0])
    assert now.look_spend_usd == 0.75


def test_what_is_older_than_a_day_counts_no_more() -> None:
    log = ActivityLog(2)
    log.pulled(0.0, 0, look_cost_usd=0.5)
    log.pulled(100.0, 1, look_cost_usd=0.25)
    now = log.at(SECONDS_PER_DAY + 50.0)
    np.testing.assert_array_equal(now.pulls, [0.0, 1.0])
    assert now.look_spend_usd == 0.25
    # How long an arm has been idle is still known.
    assert now.idle_s[0] == SECONDS_PER_DAY + 50.0


def test_a_restart_goes_by_what_the_log_says() -> None:
    log = ActivityLog(3)
    log.pulled(1.0, 2, look_cost_usd=9.0)
    log.restore(1000.0, [5, 0, 3], [10.0, np.inf, 700.0], 0.5)
    now = log.at(1000.0)
    np.testing.assert_array_equal(now.pulls, [5.0, 0.0, 3.0])
    np.testing.assert_array_equal(now.idle_s, [10.0, np.inf, 700.0])
    assert now.look_spend_usd == 0.5
    assert log.at(1001.0 + SECONDS_PER_DAY).look_spend_usd == 0.0


def test_memory_is_bounded_on_a_busy_day() -> None:
    log = ActivityLog(1)
    for step in range(MOST_KEPT + 500):
        log.pulled(step * 0.1, 0)
    assert log.at(MOST_KEPT * 0.1 + 50.0).pulls[0] == MOST_KEPT
