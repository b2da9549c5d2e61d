"""Floors bounded in dollars, and forced looks from a budget of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bandit_router.activity import ActivityLog
from bandit_router.choice import mix
from bandit_router.config import ExplorationConfig
from bandit_router.exploration import (
    LOOK_PROBABILITY,
    SECONDS_PER_DAY,
    Activity,
    explored,
    no_exploration,
)
from bandit_router.types import Exploration

HOUR = 3600.0


def explore(
    config: ExplorationConfig,
    pmf: Sequence[float],
    cost_usd: Sequence[float],
    *,
    eligible: Sequence[bool] | None = None,
    activity: Activity | None = None,
    **changes: Any,
) -> Exploration:
    """Exploration among arms that are equally good, where nothing else is said."""
    count = len(pmf)
    values: dict[str, Any] = {"utility": np.zeros(count), "utility_sd": np.zeros(count)}
    return explored(
        config,
        np.array(pmf),
        cost_usd=np.array(cost_usd),
        eligible=np.array([True] * count if eligible is None else eligible),
        activity=activity,
        **{**values, **changes},
    )


def lately(
    idle_hours: Sequence[float], pulls: Sequence[int] | None = None, look_spend_usd: float = 0.0
) -> Activity:
    return Activity(
        pulls=np.array(pulls if pulls is not None else [0] * len(idle_hours), dtype=float),
        idle_s=np.array(idle_hours) * HOUR,
        look_spend_usd=look_spend_usd,
    )


CONFIG = ExplorationConfig(
    floor=0.01,
    floor_spend_share=0.03,
    floor_quality_loss=0.001,
    min_pulls_per_day=12,
    look_budget_usd_per_day=1.0,
)


def test_floors_share_an_allowance_in_dollars() -> None:
    # The policy expects to spend $1; 3 % of it over three arms is a cent each.
    found = explore(CONFIG, [1.0, 0.0, 0.0], [1.0, 10.0, 0.5])
    np.testing.assert_allclose(found.floor, [0.01, 0.001, 0.01])
    assert found.look_arm == -1


def test_a_floor_adds_no_more_than_its_share_of_the_spend() -> None:
    cost = np.array([1e-4, 5e-2, 2e-3, 0.0])
    found = explore(CONFIG, [0.9, 0.0, 0.1, 0.0], cost)
    expected_usd = 0.9 * 1e-4 + 0.1 * 2e-3
    assert found.floor @ cost <= CONFIG.floor_spend_share * expected_usd * (1 + 1e-12)
    assert (found.floor <= CONFIG.floor).all()
    assert found.floor[3] == CONFIG.floor


def test_free_arms_have_the_whole_floor_and_dear_ones_none_beside_a_free_choice() -> None:
    found = explore(CONFIG, [1.0, 0.0, 0.0], [0.0, 0.0, 0.2])
    np.testing.assert_allclose(found.floor, [0.01, 0.01, 0.0])


def test_masked_arms_have_no_floor() -> None:
    found = explore(CONFIG, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], eligible=[True, False, True])
    np.testing.assert_allclose(found.floor, [0.01, 0.0, 0.01])


def test_an_arm_surely_behind_is_floored_by_what_it_loses() -> None:
    utility = np.array([0.8, 0.3, 0.3])
    found = explore(
        CONFIG,
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        utility=utility,
        utility_sd=np.array([0.0, 0.0, 10.0]),
    )
    # 0.001 over three arms, each losing 0.5; the third may yet be the best.
    np.testing.assert_allclose(found.floor, [0.01, 0.001 / 3 / 0.5, 0.01])
    assert (found.floor[:2] * (0.8 - utility[:2])).sum() <= CONFIG.floor_quality_loss


def test_an_arm_that_cannot_be_paced_has_no_floor() -> None:
    found = explore(CONFIG, [0.5, 0.5], [1.0, 5.0], dearest_usd=4.0)
    assert found.floor[0] > 0.0
    assert found.floor[1] == 0.0


@pytest.mark.parametrize("count", [5, 8, 32, 200])
def test_floors_of_many_free_arms_still_leave_a_pmf(count: int) -> None:
    config = ExplorationConfig(floor=0.2)
    pmf = np.zeros(count)
    pmf[0] = 1.0
    found = explore(config, list(pmf), [0.0] * count)
    assert found.floor.sum() <= 1.0 + 1e-12
    mixed = mix(pmf, found)
    assert mixed.min() >= 0.0
    assert mixed.sum() == pytest.approx(1.0)


def test_switched_off_or_without_choice_nothing_is_mixed_in() -> None:
    waiting = lately([30.0, 30.0])
    off = CONFIG.model_copy(update={"enabled": False})
    for found in (
        explore(off, [0.5, 0.5], [0.0, 0.0], activity=waiting),
        explore(CONFIG, [1.0, 0.0], [0.0, 0.0], eligible=[True, False], activity=waiting),
        no_exploration(2),
    ):
        np.testing.assert_array_equal(found.floor, [0.0, 0.0])
        assert (found.look_arm, found.look_probability) == (-1, 0.0)


@pytest.mark.parametrize(
    ("idle_hours", "due"),
    # Twelve looks a day: one every two hours.
    [([0.1, 1.9], -1), ([0.1, 2.0], 1), ([5.0, 3.0], 0), ([5.0, np.inf], 1)],
)
def test_the_arm_longest_overdue_gets_a_look(idle_hours: list[float], due: int) -> None:
    found = explore(CONFIG, [1.0, 0.0], [0.1, 0.1], activity=lately(idle_hours))
    assert found.look_arm == due
    assert found.look_probability == (LOOK_PROBABILITY if due >= 0 else 0.0)


def test_arms_pulled_often_enough_or_masked_need_no_look() -> None:
    activity = lately([9.0, 8.0, 7.0], pulls=[12, 11, 0])
    assert explore(CONFIG, [1.0, 0, 0], [0.0] * 3, activity=activity).look_arm == 1
    found = explore(CONFIG, [1.0, 0, 0], [0.0] * 3, eligible=[True, False, True], activity=activity)
    assert found.look_arm == 2


def test_looks_end_with_their_daily_dollars() -> None:
    def look(look_spend_usd: float) -> int:
        activity = lately([9.0, 8.0], look_spend_usd=look_spend_usd)
        return explore(CONFIG, [0.0, 1.0], [0.25, 0.125], activity=activity).look_arm

    assert look(0.0) == 0
    assert look(0.75) == 0
    # Not enough for the dear one any more, then for neither.
    assert look(0.8) == 1
    assert look(0.9) == -1
    # What costs nothing is always affordable.
    activity = lately([9.0, 8.0], look_spend_usd=1.0)
    assert explore(CONFIG, [1.0, 0.0], [0.25, 0.0], activity=activity).look_arm == 1


def test_no_looks_without_counts_or_when_none_are_asked_for() -> None:
    assert explore(CONFIG, [1.0, 0.0], [0.0, 0.0]).look_arm == -1
    none = CONFIG.model_copy(update={"min_pulls_per_day": 0})
    assert explore(none, [1.0, 0.0], [0.0, 0.0], activity=lately([9.0, np.inf])).look_arm == -1


def test_looks_of_a_quiet_day_come_evenly() -> None:
    # A request a minute, all of which the policy gives to arm 0.
    rng = np.random.default_rng(0)
    pulled: list[float] = []
    for minute in range(1, 24 * 60):
        now_s = minute * 60.0
        activity = Activity(
            pulls=np.array([1e4, float(len(pulled))]),
            idle_s=np.array([0.0, now_s - pulled[-1] if pulled else np.inf]),
            look_spend_usd=0.0,
        )
        found = explore(CONFIG, [1.0, 0.0], [0.0, 1e-9], activity=activity)
        if found.look_arm == 1 and rng.random() < found.look_probability:
            pulled.append(now_s)
    assert 10 <= len(pulled) <= 12
    assert np.diff(pulled).min() >= SECONDS_PER_DAY / 12


def test_a_newcomer_to_a_busy_router_is_looked_at_once_and_then_ten_times_a_day() -> None:
    # Fifty requests a second for four minutes, and the policy thinks nothing of the new arm.
    rng = np.random.default_rng(1)
    log = ActivityLog(2)
    log.pulled(0.0, 0)
    looks = 0
    for step in range(12_000):
        now_s = step / 50.0
        activity = log.at(now_s)
        found = explore(CONFIG, [1.0, 0.0], [0.0, 1e-2], activity=activity)
        if found.look_arm == 1 and rng.random() < found.look_probability:
            looks += 1
            log.pulled(now_s, 1, 1e-2)
    assert looks == 1
    assert log.at(240.0).look_spend_usd == 1e-2
