"""Bets against predictions, and what an alarm does to the learned state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit_router import alarms
from bandit_router.alarms import At, Cut, changes, empty_watch, watch_floor, with_cut
from bandit_router.learning import LearnedState, fold
from tests.core_samples import folded, make_policy, make_problem, make_row

POLICY = make_policy()
PROBLEM = make_problem(("old", "other"), budget_usd=1e-3)


def pulls_to_alarm(rewards: np.ndarray, mean: float) -> int | None:
    watch = empty_watch(1)
    for pull, reward in enumerate(rewards):
        watch = alarms.after_quality(watch, 0, float(reward), mean, 0.0, At(pull, pull))
        if watch.raised_at[0, 0] >= 0.0:
            return pull + 1
    return None


def test_right_predictions_raise_no_alarm() -> None:
    # 40 streams of 5,000 pulls: two sides at odds of 10,000 would allow up to 40 alarms. The
    # tolerance, a tenth of an sd, makes them rarer still.
    rng = np.random.default_rng(0)
    streams = np.clip(rng.normal(0.8, 0.1, (40, 5_000)), 0.0, 1.0)
    found = [pulls_to_alarm(stream, float(streams.mean())) for stream in streams]
    assert [pull for pull in found if pull is not None] == []


@pytest.mark.parametrize(("drop", "most"), [(0.17, 30), (0.10, 60), (0.05, 300)])
def test_a_drop_is_noticed_within_tens_of_pulls(drop: float, most: int) -> None:
    rng = np.random.default_rng(1)
    found = [
        pulls_to_alarm(np.clip(rng.normal(0.9 - drop, 0.1, 1_000), 0.0, 1.0), 0.9)
        for _ in range(40)
    ]
    delays = [pull for pull in found if pull is not None]
    assert len(delays) == 40
    assert np.median(delays) <= most


def test_binary_rewards_are_bet_on_too() -> None:
    rng = np.random.default_rng(2)
    steady = (rng.random((20, 3_000)) < 0.8).astype(float)
    assert [pulls_to_alarm(stream, 0.8) for stream in steady] == [None] * 20
    fallen = (rng.random((20, 500)) < 0.4).astype(float)
    delays = [pulls_to_alarm(stream, 0.8) for stream in fallen]
    assert all(delay is not None and delay < 120 for delay in delays)


def test_a_price_that_rose_tenfold_is_noticed_at_once() -> None:
    watch = empty_watch(1)
    for pull in range(40):
        watch = alarms.after_cost(watch, 0, 2.3, 0.05, 0.5, At(pull, pull))
        if watch.raised_at[0, 1] >= 0.0:
            break
    (change,) = changes(watch, pull)
    assert (change.kind, change.risen, change.requests) == ("cost", True, 0)
    assert change.odds >= alarms.ODDS
    assert pull < 5


def test_a_bill_eight_sds_off_is_believed_at_the_third() -> None:
    watch = empty_watch(1)
    for pull in range(2):
        watch = alarms.after_cost(watch, 0, 4.1, 0.0, 0.5, At(pull, pull))
    assert changes(watch, 1) == ()
    watch = alarms.after_cost(watch, 0, 4.1, 0.0, 0.5, At(2, 2))
    assert [change.kind for change in changes(watch, 2)] == ["cost"]


@pytest.mark.parametrize("far", [0.5, 1.0, 2.0, 4.0, 8.0, 14.0, 40.0])
def test_no_distribution_of_costs_pays_a_gambler_on_average(far: float) -> None:
    # Mean zero, variance one, as often so far off as Cantelli's inequality allows.
    chance = 1.0 / (1.0 + far * far)
    outcomes = np.array([far, -1.0 / far])
    gains = alarms.cost_gains_of_rows(0.5 * outcomes, np.zeros(2), np.full(2, 0.5))
    mean = chance * gains[0] + (1.0 - chance) * gains[1]
    assert mean.max() <= 1e-12
    assert gains.min() >= -1.0


def lived(count: int, reward_after: float) -> LearnedState:
    """300 good answers of either arm, then ``count`` of the first that are worth something else."""
    rng = np.random.default_rng(3)
    rows = [
        make_row(
            seq,
            PROBLEM.arms[seq % 2],
            rng.normal(size=4),
            reward=float(np.clip(rng.normal(0.9, 0.05), 0.0, 1.0)),
            cost_usd=1e-3,
        )
        for seq in range(300)
    ]
    rows += [
        make_row(300 + i, "old", rng.normal(size=4), reward=reward_after, cost_usd=1e-3)
        for i in range(count)
    ]
    return folded(PROBLEM, POLICY, rows)


def test_an_alarm_widens_the_arm_and_no_other() -> None:
    z = np.r_[1.0, np.zeros(4)]
    before, after = lived(0, 0.7), lived(40, 0.7)
    (change,) = changes(after.watch, after.pacer.paid)
    assert (change.arm, change.kind, change.risen) == (0, "quality", False)
    old, new = POLICY.beliefs(before.policy, z), POLICY.beliefs(after.policy, z)
    assert new.mean[0] == pytest.approx(0.7, abs=0.03)
    assert new.sd[0] > 1.5 * old.sd[0]
    np.testing.assert_array_equal(after.policy.arms[1].covariance, before.policy.arms[1].covariance)
    np.testing.assert_array_equal(after.policy.means[1], before.policy.means[1])
    # Watched arms are looked at more often than others, for a while.
    assert watch_floor(after.watch, after.pacer.paid).tolist() == [alarms.WATCH_FLOOR, 0.0]
    later = after.pacer.paid + alarms.WATCHED_REQUESTS + 40
    assert watch_floor(after.watch, later).tolist() == [0.0, 0.0]


def test_what_stays_as_it_was_keeps_its_memory() -> None:
    state = lived(40, 0.9)
    assert changes(state.watch, state.pacer.paid) == ()
    assert state.policy.arms[0].sums.weight == 190.0


def test_a_row_from_before_an_alarm_is_taken_out_as_exactly_as_it_still_counts() -> None:
    state = lived(40, 0.7)
    features = np.array([0.5, -0.5, 1.0, 0.0])
    late = make_row(10, "old", features, reward=0.2, cost_usd=None, latency_s=None)
    retracted = replace(late, reward=None, previous_reward=0.2)
    there = fold(PROBLEM, POLICY, state, late)
    counted = there.policy.arms[0].sums.weight - state.policy.arms[0].sums.weight
    assert 0.0 < counted < 0.1
    back = fold(PROBLEM, POLICY, there, retracted)
    np.testing.assert_allclose(back.policy.means, state.policy.means, atol=1e-9)


def test_cuts_multiply_and_the_oldest_become_one() -> None:
    watch = empty_watch(2)
    for i in range(alarms.MOST_CUTS + 3):
        watch = with_cut(watch, 0, 1, Cut(10 * i, 0.5))
    assert len(watch.cuts[0][1]) == alarms.MOST_CUTS
    assert watch.share(0, 1, 0) == 0.5 ** (alarms.MOST_CUTS + 3)
    assert watch.share(0, 1, 10 * (alarms.MOST_CUTS + 2)) == 0.5
    assert watch.share(0, 1, 10_000) == watch.share(0, 0, 0) == watch.share(1, 1, 0) == 1.0
    rows = np.array([0, 10_000])
    assert watch.shares(0, np.array([1, 1]), rows).tolist() == [watch.share(0, 1, 0), 1.0]


def test_a_fit_after_an_alarm_tells_rows_from_before_the_change_and_after_it_apart() -> None:
    watch = empty_watch(1)
    rng = np.random.default_rng(4)
    for seq in range(500):
        reward = 0.9 if seq < 300 else 0.7
        reward += float(rng.normal(0.0, 0.05))
        watch = alarms.after_quality(watch, 0, min(reward, 1.0), 0.9, 0.0, At(seq, seq))
        if watch.unsettled:
            break
        watch = replace(watch, rows=watch.rows + np.array([1.0, 0.0, 0.0]))
    before = with_cut(watch, alarms.QUALITY, 0, Cut(seq - 1, alarms.KEPT_ROWS / seq))
    after = alarms.dated(before)
    (cut,) = after.cuts[alarms.QUALITY][0]
    assert 295 <= cut.decision_seq <= 305
    assert after.share(alarms.QUALITY, 0, 200) == 0.0
    assert after.share(alarms.QUALITY, 0, seq) == 1.0
    assert after.rows[0, alarms.QUALITY] == pytest.approx(seq - 1 - cut.decision_seq, abs=2.0)
    assert not after.unsettled
    assert alarms.dated(after).cuts == after.cuts


def test_right_costs_with_heavy_tails_raise_no_alarm() -> None:
    rng = np.random.default_rng(5)
    for draws in (
        rng.standard_t(3, (10, 4_000)) / np.sqrt(3.0),
        rng.exponential(1.0, (10, 4_000)) - 1.0,
    ):
        for stream in draws:
            watch = empty_watch(1)
            for pull, off in enumerate(0.5 * stream):
                watch = alarms.after_cost(watch, 0, float(off), 0.02, 0.5, At(pull, pull))
            assert changes(watch, stream.size) == ()
