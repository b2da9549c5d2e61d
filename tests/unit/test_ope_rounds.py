"""A log is checked, ordered and frozen before anything is estimated from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router.errors import DataError
from bandit_router.ope import (
    REMEDIES,
    fixed,
    joined,
    logged_rounds,
    logging_policy,
    mix,
    row_problems,
)
from bandit_router.ope.targets import checked_pmf

NAN = float("nan")


def _columns(**changes: Any) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "arms": ("small", "large"),
        "arm": np.array([0, 1, 1]),
        "pmf": np.array([[0.5, 0.5], [0.2, 0.8], [0.0, 1.0]]),
        "features": np.array([[1.0], [2.0], [3.0]]),
        "reward": np.array([1.0, NAN, 0.5]),
        "cost_usd": np.array([0.1, 0.2, NAN]),
        "latency_s": np.array([1.0, 2.0, 3.0]),
        "segment": ["code", "chat", "code"],
    }
    return columns | changes


def test_what_is_left_out_of_a_log_is_filled_in_from_its_pmf() -> None:
    rounds = logged_rounds(**_columns())
    assert rounds.propensity.tolist() == [0.5, 0.8, 1.0]
    assert rounds.eligible.tolist() == [[True, True], [True, True], [False, True]]
    assert rounds.segments == ("chat", "code")
    assert rounds.segment.tolist() == [1, 0, 1]
    assert rounds.order.tolist() == [0, 1, 2]


def test_rounds_are_sorted_by_their_order_and_read_only() -> None:
    rounds = logged_rounds(**_columns(order=[30, 10, 20]))
    assert rounds.features[:, 0].tolist() == [2.0, 3.0, 1.0]
    assert rounds.arm.tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="read-only"):
        rounds.reward[0] = 0.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arm": np.array([0, 1, 2])}, "unknown_arm"),
        ({"arm": np.array([0, 1, -1])}, "unknown_arm"),
        ({"pmf": np.array([[0.5, 0.5], [NAN, 0.8], [0.0, 1.0]])}, "pmf_out_of_range"),
        ({"pmf": np.array([[0.5, 0.5], [-0.2, 1.2], [0.0, 1.0]])}, "pmf_out_of_range"),
        ({"pmf": np.array([[0.5, 0.5], [0.2, 0.7], [0.0, 1.0]])}, "pmf_sum"),
        ({"arm": np.array([0, 1, 0])}, "zero_propensity"),
        ({"propensity": np.array([0.5, 0.8, 0.0])}, "zero_propensity"),
        ({"propensity": np.array([0.5, NAN, 1.0])}, "zero_propensity"),
        ({"propensity": np.array([0.5, 0.2, 1.0])}, "propensity_mismatch"),
        ({"eligible": np.array([[1, 1], [0, 1], [0, 1]], dtype=bool)}, "ineligible_mass"),
        ({"reward": np.array([0.0, 1.5, 0.0])}, "reward_out_of_range"),
        ({"cost_usd": np.array([0.0, -1.0, 0.0])}, "negative_cost"),
        ({"latency_s": np.array([0.0, np.inf, 0.0])}, "negative_latency"),
        ({"features": np.array([[1.0], [NAN], [3.0]])}, "features_not_finite"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_its_remedy(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DataError, match="1 of 3 rounds") as told:
        logged_rounds(**_columns(**changes))
    assert REMEDIES[problem] in str(told.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ("a", "a")}, "distinct"),
        ({"arm": np.array([0.0, 1.0, 1.0])}, "indices"),
        ({"pmf": np.ones((3, 1))}, r"\(3, 2\)"),
        ({"reward": np.ones(2)}, "reward must have shape"),
        ({"features": np.ones(3)}, "features must have shape"),
        ({"segment": ["a"]}, "one label per decision"),
        ({"segments": ("chat",)}, "'code' is not among"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        logged_rounds(**_columns(**changes))


def test_each_bad_row_is_counted_once_by_what_is_first_wrong_with_it() -> None:
    rounds = logged_rounds(**_columns())
    columns = {
        name: getattr(rounds, name).copy()
        for name in (
            ["arm", "pmf", "propensity", "eligible", "reward", "cost_usd", "latency_s", "features"]
        )
    }
    columns["pmf"][0] = [0.4, 0.4]
    columns["reward"][0] = 7.0
    columns["cost_usd"][2] = -1.0
    found = row_problems(columns)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "pmf_sum": [True, False, False],
        "negative_cost": [False, False, True],
    }


def test_pieces_of_a_log_join_to_the_whole_and_out_of_order_is_refused() -> None:
    rounds = logged_rounds(**_columns())
    whole = joined([rounds.rows(slice(0, 2)), rounds.rows(slice(2, 3))])
    assert whole.order.tolist() == rounds.order.tolist()
    assert np.array_equal(whole.pmf, rounds.pmf)
    with pytest.raises(DataError, match="sort the log"):
        joined([rounds.rows(slice(2, 3)), rounds.rows(slice(0, 2))])


def test_targets_give_probabilities_for_every_round() -> None:
    rounds = logged_rounds(**_columns())
    assert checked_pmf(fixed("large"), rounds).tolist() == [[0.0, 1.0]] * 3
    assert checked_pmf(mix([0.25, 0.75]), rounds).tolist() == [[0.25, 0.75]] * 2 + [[0.0, 1.0]]
    assert checked_pmf(logging_policy(), rounds).tolist() == rounds.pmf.tolist()
    with pytest.raises(DataError, match="no arm 'huge'"):
        checked_pmf(fixed("huge"), rounds)
    with pytest.raises(DataError, match="no eligible arm"):
        checked_pmf(mix([1.0, 0.0]), rounds)
    with pytest.raises(DataError, match="sum to 1"):
        mix([0.5, 0.6])
    with pytest.raises(DataError, match="round 0"):
        checked_pmf(lambda some: some.pmf * 0.5, rounds)
