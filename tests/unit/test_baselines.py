"""The yardsticks, worked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from simulations.baselines import (
    Baseline,
    best_single,
    fixed,
    mix_of,
    oracle,
    static_mix,
    uniform,
)
from simulations.matrix import OutcomeMatrix

UNKNOWN = float("nan")


def matrix(quality: Sequence[Sequence[float]], cost: Sequence[Sequence[float]]) -> OutcomeMatrix:
    prompts, models = len(quality), len(quality[0])
    names = tuple(str(i) for i in range(prompts))
    nothing = np.full((prompts, models), np.nan)
    return OutcomeMatrix(
        prompt_ids=names,
        prompts=names,
        category=("",) * prompts,
        split=("",) * prompts,
        models=tuple("abcdefgh"[:models]),
        quality=np.array(quality, dtype=float),
        cost_usd=np.array(cost, dtype=float),
        latency_s=nothing,
        input_tokens=nothing,
        output_tokens=nothing,
    )


# Gains of the dear model over the cheap one: 0.8, 0.2, 0.1, −0.3, at $9 more each.
TWO = matrix(
    [[0.1, 0.9], [0.5, 0.7], [0.8, 0.9], [0.9, 0.6]],
    [[1.0, 10.0]] * 4,
)


def assert_is(found: Baseline, reward: float, cost_usd: float) -> None:
    assert found.reward == pytest.approx(reward)
    assert found.cost_usd == pytest.approx(cost_usd)


def test_each_model_alone() -> None:
    cheap, dear = fixed(TWO)
    assert_is(cheap, 0.575, 1.0)
    assert_is(dear, 0.775, 10.0)


@pytest.mark.parametrize(
    ("budget_usd", "reward", "cost_usd"),
    [(None, 0.775, 10.0), (10.0, 0.775, 10.0), (9.9, 0.575, 1.0), (0.5, 0.575, 1.0)],
)
def test_the_best_single_model_within_budget(
    budget_usd: float | None, reward: float, cost_usd: float
) -> None:
    assert_is(best_single(TWO, budget_usd), reward, cost_usd)


@pytest.mark.parametrize(
    ("spend_usd", "reward", "cost_usd"),
    [
        # A third of the way from $1 to $10 is a third of the way from 0.575 to 0.775.
        (4.0, 0.575 + 0.2 / 3, 4.0),
        (1.0, 0.575, 1.0),
        (10.0, 0.775, 10.0),
        (99.0, 0.775, 10.0),
        (0.5, 0.575, 1.0),
        (None, 0.775, 10.0),
        (UNKNOWN, 0.775, 10.0),
    ],
)
def test_the_best_static_mix_at_a_spend(
    spend_usd: float | None, reward: float, cost_usd: float
) -> None:
    assert_is(static_mix(TWO, spend_usd), reward, cost_usd)


def test_a_mix_walks_the_upper_hull() -> None:
    # b lies below the line from a to c, and d is dominated.
    models = (Baseline(0.5, 1.0), Baseline(0.55, 2.0), Baseline(0.9, 3.0), Baseline(0.8, 4.0))
    assert_is(mix_of(models, 2.0), 0.7, 2.0)
    assert_is(mix_of(models, 3.5), 0.9, 3.0)
    # A kink that lies above the line is used.
    models = (Baseline(0.5, 1.0), Baseline(0.8, 2.0), Baseline(0.9, 3.0))
    assert_is(mix_of(models, 2.0), 0.8, 2.0)
    assert_is(mix_of(models, 1.5), 0.65, 1.5)
    assert_is(mix_of(models, 2.5), 0.85, 2.5)


def test_random_is_the_mean_over_models() -> None:
    assert_is(uniform(TWO), 0.675, 5.5)


@pytest.mark.parametrize(
    ("budget_usd", "reward", "cost_usd"),
    [
        # Freely: 0.9, 0.7, 0.9, 0.9, and the last prompt costs $1.
        (None, 0.85, 7.75),
        (8.0, 0.85, 7.75),
        # $5.50 buys the dear model twice: for the gains of 0.8 and 0.2.
        (5.5, (0.9 + 0.7 + 0.8 + 0.9) / 4, 5.5),
        # $3.25 once; $4.375 once and half of a second time.
        (3.25, (0.9 + 0.5 + 0.8 + 0.9) / 4, 3.25),
        (4.375, (0.9 + 0.6 + 0.8 + 0.9) / 4, 4.375),
        # No less than the cheapest.
        (1.0, 0.575, 1.0),
        (0.1, 0.575, 1.0),
    ],
)
def test_the_oracle_within_budget(budget_usd: float | None, reward: float, cost_usd: float) -> None:
    found = oracle(TWO, budget_usd)
    assert found.reward == pytest.approx(reward, abs=1e-6)
    assert found.cost_usd == pytest.approx(cost_usd, abs=1e-6)


def test_among_equals_the_oracle_takes_the_cheapest() -> None:
    assert_is(oracle(matrix([[0.7, 0.7]], [[5.0, 2.0]]), None), 0.7, 2.0)


def test_outcomes_that_are_not_known_are_left_out() -> None:
    gaps = matrix([[0.2, UNKNOWN], [0.4, 0.8]], [[1.0, UNKNOWN], [1.0, 3.0]])
    assert_is(fixed(gaps)[1], 0.8, 3.0)
    assert_is(uniform(gaps), (0.2 + 0.6) / 2, (1.0 + 2.0) / 2)
    assert_is(oracle(gaps, None), 0.5, 2.0)


def test_without_costs_there_are_rewards_and_no_dollars() -> None:
    bare = matrix([[0.2, 0.6], [0.4, 0.0]], [[UNKNOWN] * 2] * 2)
    for found, reward in (
        (best_single(bare, None), 0.3),
        (static_mix(bare, None), 0.3),
        (static_mix(bare, UNKNOWN), 0.3),
        (uniform(bare), 0.3),
        (oracle(bare, None), 0.5),
    ):
        assert found.reward == pytest.approx(reward)
        assert np.isnan(found.cost_usd)
