"""The parts that intervals are made of, and a learner run on logged traffic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from bandit_router.config import ExplorationConfig
from bandit_router.effort import Prices
from bandit_router.learning import Problem
from bandit_router.ope import RefusalReason, logged_rounds, replay_learning
from bandit_router.ope.bootstrap import (
    Resamples,
    count_table,
    percentile_interval,
    studentised_interval,
)
from bandit_router.ope.clopper_pearson import clopper_pearson
from bandit_router.ope.confidence_sequence import LowerSums, controlled_terms, log_mixture
from bandit_router.ope.moments import errors_from_sums, values_from_sums
from bandit_router.ope.reward_model import ModelSums, fold_of
from bandit_router.ope.thresholds import slope
from bandit_router.policies import PolicyOptions, build_policy
from bandit_router.protocols import FeatureBlock
from simulations.protocols.ope import run_synthetic


def test_poisson_counts_have_mean_and_variance_one() -> None:
    counts = count_table()
    assert counts.mean() == pytest.approx(1.0, abs=1e-3)
    assert counts.var() == pytest.approx(1.0, abs=1e-3)


def test_resampled_means_spread_as_the_standard_error_says() -> None:
    values = np.random.default_rng(1).random(2000)
    drawn = Resamples(seed=3, resamples=400, row_count=1)
    drawn.add(0, values[None, :1500])
    drawn.add(1, values[None, 1500:])
    means = drawn.sums[:, 0] / drawn.counts
    # A standard deviation of 400 draws is known to 1/√800.
    assert means.std() == pytest.approx(values.std() / np.sqrt(2000), rel=4 / np.sqrt(800))
    low, high = percentile_interval(means, float(values.mean()), 0.95, 2000.0)
    assert low < values.mean() < high


def test_few_heavy_bad_answers_widen_the_interval_on_the_side_they_are_missing() -> None:
    rng = np.random.default_rng(3)
    # One answer in fifty is bad and weighs twenty times: skewed as a log of good models is.
    missed = np.where(rng.random(800) < 0.02, -20.0 * rng.random(800), 0.4 * rng.random(800))
    drawn = Resamples(seed=1, resamples=400, row_count=2)
    drawn.add(0, np.stack([missed, missed * missed]))
    values = values_from_sums(drawn.sums, drawn.counts)
    errors = errors_from_sums(drawn.sums, drawn.counts)
    value, error = missed.mean(), missed.std() / np.sqrt(800)
    low, high = studentised_interval(values, errors, value, error, 0.95, 800.0)
    assert value - low > 1.3 * (high - value)
    # Percentiles lean the same way by less.
    by_percentile = percentile_interval(values, value, 0.95, 800.0)
    assert value - low > value - by_percentile[0]
    assert studentised_interval(values, errors * 0.0, value, 0.0, 0.95, 800.0) == (value, value)


def test_clopper_pearson_is_the_binomial_interval_at_weight_one() -> None:
    low, high = clopper_pearson(30.0, 100, 1.0, 0.95)
    assert low == pytest.approx(beta.ppf(0.025, 30, 71))
    assert high == pytest.approx(beta.ppf(0.975, 31, 70))
    assert clopper_pearson(0.0, 100, 4.0, 0.95)[0] == 0.0


def test_the_mixture_is_the_integral_that_it_stands_for() -> None:
    gained, scatter = 6.0, 9.0

    def density(rate: float) -> float:
        return float(np.exp(-rate))

    def paid(rate: float) -> float:
        bet = 1.0 - rate
        return float(np.exp(bet * gained - scatter * (-np.log(rate) - bet)) * density(rate))

    whole = quad(density, 0.0, 1.0)[0]
    assert log_mixture(gained, scatter) == pytest.approx(np.log(quad(paid, 0.0, 1.0)[0] / whole))


def test_controlled_terms_keep_their_mean_and_never_fall_below_the_cut() -> None:
    rng = np.random.default_rng(2)
    logged, target = rng.dirichlet(np.ones(3) * 0.3, 50), rng.dirichlet(np.ones(3), 50)
    reward, guess, cuts = rng.random((50, 3)), rng.random((50, 3)), np.array([0.0, 1.0, 4.0])
    mean = np.zeros((50, 3))
    for arm in range(3):
        arms = np.full(50, arm)
        terms = controlled_terms(
            target[:, arm] / logged[:, arm],
            reward[:, arm],
            target / logged,
            target,
            guess,
            arms,
            cuts,
        )
        assert (terms >= -cuts - 1e-12).all()
        mean += logged[:, arm, None] * terms
    assert mean == pytest.approx(np.tile((target * reward).sum(axis=1)[:, None], 3))


def test_a_confidence_sequence_is_seldom_wrong_at_any_time() -> None:
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # Rare heavy weights: mean one half, seen in one of ten rounds.
        terms = np.where(rng.random(1000) < 0.1, 5.0, 0.0)[:, None]
        sums = LowerSums(np.zeros(1), 1000, 0.05)
        broken = False
        for start in range(0, 1000, 50):
            sums.add(terms[start : start + 50])
            broken |= sums.lower_any_time() > 0.5
        wrong += broken
    # Five in a hundred are allowed; three standard errors on top.
    assert wrong <= 10 + 3 * np.sqrt(200 * 0.05 * 0.95)
    assert sums.lower_any_time() > 0.2
    assert sums.lower_fixed() > sums.lower_any_time()


def test_slope_takes_the_surest_value_that_agrees_with_the_less_biased_ones() -> None:
    error = np.array([0.4, 0.2, 0.1, 0.05])
    assert slope(np.array([1.0, 1.05, 1.0, 0.98]), error) == 3
    assert slope(np.array([1.0, 1.0, 0.0, 0.0]), error) == 1
    assert slope(np.array([1.0, -2.0, -2.0, -2.0]), error) == 0


def test_the_outcome_model_finds_a_line_and_does_not_depend_on_the_unit() -> None:
    rng = np.random.default_rng(4)
    design = np.hstack([np.ones((600, 1)), rng.normal(size=(600, 3))])
    arm = rng.integers(0, 2, 600)
    line = np.array([[0.5, 0.1, 0.0, -0.1], [0.3, 0.0, 0.2, 0.0]])
    value = (design * line[arm]).sum(axis=1) + 0.01 * rng.normal(size=600)
    found = []
    for unit in (1.0, 1000.0):
        sums = ModelSums(1, 2, 4)
        sums.add(design, arm, [unit * value])
        found.append(sums.coefficients(0, [[0], [1]]) / unit)
    assert found[0] == pytest.approx(line, abs=0.005)
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_folds_are_about_even() -> None:
    counts = np.bincount(fold_of(np.arange(10_000)))
    assert counts.size == 5
    assert counts.min() > 1900


def _learner(n: int, floor: float) -> tuple[object, Problem]:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(n, 2))
    pmf = np.tile([1.0 - floor, floor], (n, 1))
    arm = (rng.random(n) < floor).astype(np.int64)
    reward = np.clip(0.4 + 0.4 * arm + 0.05 * rng.normal(size=n), 0.0, 1.0)
    log = logged_rounds(
        arms=("small", "large"),
        arm=arm,
        pmf=pmf,
        reward=reward,
        features=features,
        cost_usd=np.full(n, 0.001),
    )
    zeros = np.zeros(2)
    return log, Problem(
        arms=("small", "large"),
        feature_names=("f0", "f1"),
        feature_blocks=(FeatureBlock("all", 0, 2),),
        prices=Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
        routable=np.ones(2, dtype=np.bool_),
    )


def test_a_learner_run_on_a_log_finds_the_better_arm_and_states_what_it_lost() -> None:
    log, problem = _learner(1500, 0.5)
    found = replay_learning(
        log,  # type: ignore[arg-type]
        problem,
        build_policy("thompson", PolicyOptions()),
        np.random.default_rng(6),
        exploration=ExplorationConfig(),
        weight_limit=2.0,
    )
    assert found.refused is None
    assert found.value == pytest.approx(0.8, abs=0.05)
    # At half a chance and a limit of two, every second round can be used.
    assert found.lost == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 1500))
    assert found.cut == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(found.reward).all()


def test_a_learner_whose_choices_the_log_hardly_has_is_refused() -> None:
    log, problem = _learner(600, 0.02)
    policy = build_policy("fixed", PolicyOptions(fixed_arm=1))
    rng = np.random.default_rng(7)
    found = replay_learning(
        log,
        problem,
        policy,
        rng,
        exploration=ExplorationConfig(),  # type: ignore[arg-type]
    )
    assert found.refused is not None
    assert found.refused.reason is RefusalReason.EFFECTIVE_SAMPLE_SIZE
    assert found.cut == pytest.approx(0.8)


def test_intervals_hold_the_truth_on_logs_of_a_learner() -> None:
    told = run_synthetic(20, 100, 1, lambda: None)
    for target, row in told.items():
        for key, found in row["estimates"].items():
            if found["coverage"] is not None and sum(found["refused"].values()) == 0:
                # At 93 %, six misses of twenty come once in five hundred times; the benchmark
                # counts two hundred logs.
                assert found["coverage"] >= 0.75, (target, key)
    assert told["mix"]["dr_over_ips"] < 0.8
