"""Calibration and the cost of exploration, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.calibration import BINS, calibration, exploration_cost

NAN = float("nan")


def test_bins_hold_equal_counts_and_the_error_weighs_them() -> None:
    quality = np.repeat([0.2, 0.8], 50)
    reward = np.concatenate([np.tile([0.0, 0.5], 25), np.full(50, 0.7)])
    nothing = np.full(100, NAN)
    found = calibration("a", quality, reward, nothing, nothing, nothing, nothing)
    assert [b.count for b in found.bins] == [100 // BINS] * BINS
    # Half of the rows are 0.05 off (0.2 against 0.25), half 0.1 (0.8 against 0.7).
    assert found.error == pytest.approx(0.075)
    assert found.bias == pytest.approx(0.5 - 0.475)
    assert found.cost_ratio is None


def test_ratios_count_only_what_was_observed() -> None:
    ones, paid = np.ones(4), np.array([2.0, 4.0, NAN, NAN])
    found = calibration("a", ones, np.full(4, NAN), ones, paid, 2 * ones, paid)
    assert found.count == 0
    assert found.error is None
    assert found.bins == ()
    assert found.cost_ratio == pytest.approx(3.0)
    assert found.latency_ratio == pytest.approx(1.5)


def test_exploration_costs_what_the_best_believed_model_would_have_saved() -> None:
    quality = np.array([[0.9, 0.5], [0.9, 0.5], [0.9, 0.5]])
    cost = np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]])
    eligible = np.array([[True, True], [True, True], [False, True]])
    found = exploration_cost(
        np.array([0, 1, 1]),
        eligible,
        quality,
        cost,
        quality,
        np.array([False, True, False]),
        np.array([1.0, 2.5, NAN]),
    )
    assert found.decisions == 3
    # The last one had no choice.
    assert found.not_best == pytest.approx(1 / 3)
    assert found.extra_usd == pytest.approx(2 / 3)
    assert found.quality_given_up == pytest.approx(0.4 / 3)
    assert (found.looks, found.look_usd) == (1, 2.5)


def test_no_decisions_cost_nothing() -> None:
    none = np.zeros((0, 2))
    empty = np.zeros(0)
    found = exploration_cost(empty.astype(np.int64), none > 0, none, none, none, empty > 0, empty)
    assert (found.decisions, found.not_best) == (0, None)
