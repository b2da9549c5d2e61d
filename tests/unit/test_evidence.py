"""The marginal likelihood, and the noise and scales that it picks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bandit_router.evidence import Priors, evidence_and_slopes, fit_priors, log_evidence
from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray

START = Prior(mean=np.array([0.5, 0.0, 0.0]), precision=np.ones(3), noise=0.1)


def rows(count: int, dimension: int, seed: int) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(count, dimension))
    x[:, 0] = 1.0
    return x


def test_evidence_is_the_marginal_normal_density() -> None:
    prior = Prior(mean=np.array([0.4, 0.1, -0.2]), precision=np.array([2.0, 5.0, 9.0]), noise=0.3)
    x = rows(7, 3, seed=0)
    y = np.random.default_rng(1).uniform(size=7)
    direct = multivariate_normal(
        mean=x @ prior.mean,
        cov=prior.noise * np.eye(7) + x @ np.diag(1.0 / prior.precision) @ x.T,
    ).logpdf(y)
    assert log_evidence(Sums.of(x, y, np.ones(7)), prior) == pytest.approx(direct, abs=1e-10)


def test_evidence_of_no_rows_is_certain() -> None:
    assert log_evidence(Sums.empty(3), START) == pytest.approx(0.0, abs=1e-12)


def test_a_row_of_weight_two_is_two_rows_of_half_the_spread_between() -> None:
    # Equal rows: weight 2 has the evidence of the row twice.
    x, y = rows(1, 3, seed=2), np.array([0.7])
    doubled = Sums.of(np.vstack([x, x]), np.r_[y, y], np.ones(2))
    assert log_evidence(Sums.of(x, y, np.array([2.0])), START) == pytest.approx(
        log_evidence(doubled, START), abs=1e-12
    )


@pytest.mark.parametrize("noise_sd", [0.03, 0.1, 0.3])
def test_fit_recovers_the_noise(noise_sd: float) -> None:
    rng = np.random.default_rng(4)
    heads = []
    for k in range(3):
        x = rows(400, 3, seed=10 + k)
        y = x @ np.array([0.5 + 0.1 * k, 0.1, -0.05]) + rng.normal(0.0, noise_sd, 400)
        heads.append(Sums.of(x, y, np.ones(400)))
    groups = np.array([0.0, 1.0, 1.0])
    fitted = fit_priors(heads, groups, START, bias_sd=0.5, least_noise=1e-6).unseen
    # The variance of 1,200 normals has a relative standard error of sqrt(2 / 1200) = 4 %.
    assert fitted.noise == pytest.approx(noise_sd**2, rel=0.2)
    assert fitted.mean[0] == pytest.approx(0.6, abs=0.02)


def test_a_block_that_says_nothing_gets_a_smaller_scale_than_one_that_does() -> None:
    rng = np.random.default_rng(5)
    heads = []
    for k in range(3):
        x = rows(500, 7, seed=20 + k)
        # Each arm has its own use for the first block, and none for the second.
        weights = np.r_[0.5, rng.normal(0.0, 0.2, 3), np.zeros(3)]
        heads.append(Sums.of(x, x @ weights + rng.normal(0.0, 0.1, 500), np.ones(500)))
    groups = np.array([0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    start = Prior(mean=np.zeros(7), precision=np.ones(7), noise=0.1)
    fitted = fit_priors(heads, groups, start, bias_sd=0.5, least_noise=1e-6).unseen
    scale = 1.0 / np.sqrt(fitted.precision)
    assert scale[0] == pytest.approx(0.5)
    assert scale[1] == scale[2] == scale[3]
    assert scale[4] == scale[5] == scale[6]
    assert 0.07 < scale[1] < 0.6
    assert scale[4] < 0.1 * scale[1]


def test_few_rows_hardly_use_the_context() -> None:
    rng = np.random.default_rng(6)
    x = rows(6, 3, seed=30)
    heads = [Sums.of(x, rng.uniform(0.4, 0.6, 6), np.ones(6)), Sums.empty(3)]
    fitted = fit_priors(heads, np.array([0.0, 1.0, 1.0]), START, bias_sd=0.5, least_noise=1e-4)
    for prior in (*fitted.arms, fitted.unseen):
        assert (1.0 / np.sqrt(prior.precision[1:]) < 0.1).all()


def test_without_rows_the_start_stays() -> None:
    groups = np.array([0.0, 1.0, 1.0])
    heads = [Sums.empty(3), Sums.empty(3)]
    fitted = fit_priors(heads, groups, START, bias_sd=0.5, least_noise=1e-4)
    assert fitted == Priors(arms=(START, START), unseen=START)
    assert fitted.unseen is START


def test_a_head_whose_rows_are_even_gets_less_noise_than_one_whose_rows_scatter() -> None:
    rng = np.random.default_rng(8)
    heads = []
    for k, noise_sd in enumerate((0.02, 0.2)):
        x = rows(400, 3, seed=50 + k)
        heads.append(Sums.of(x, 0.7 + rng.normal(0.0, noise_sd, 400), np.ones(400)))
    groups = np.array([0.0, 1.0, 1.0])
    even, scattered = fit_priors(heads, groups, START, bias_sd=0.5, least_noise=1e-6).arms
    # The pooled spread counts as ten rows of the head's own: 8.8e-4 where it is not noise at all.
    assert 0.02**2 <= even.noise <= (400 * 0.02**2 + 10 * 0.0202) / 410
    assert scattered.noise == pytest.approx(0.04, rel=0.25)


def test_the_search_is_led_by_the_slopes_of_the_evidence() -> None:
    x, rng = rows(40, 3, seed=60), np.random.default_rng(9)
    sums = Sums.of(x, x @ np.array([0.5, 0.2, -0.1]) + rng.normal(0.0, 0.1, 40), np.ones(40))

    def at(logs: FloatArray) -> tuple[float, float, FloatArray]:
        prior = Prior(np.full(3, 0.1), np.exp(-2.0 * logs[1:]), float(np.exp(logs[0])))
        return evidence_and_slopes(sums, prior)

    logs = np.array([-3.0, -0.5, -1.0, -2.0])
    _, by_noise, by_scale = at(logs)
    step = 1e-5 * np.eye(4)
    numeric = [(at(logs + h)[0] - at(logs - h)[0]) / 2e-5 for h in step]
    np.testing.assert_allclose([by_noise, *by_scale], numeric, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_rewards_that_never_vary_keep_the_least_noise(value: float) -> None:
    x = rows(50, 3, seed=40)
    heads = [Sums.of(x, np.full(50, value), np.ones(50))]
    groups = np.array([0.0, 1.0, 1.0])
    fitted = fit_priors(heads, groups, START, bias_sd=0.5, least_noise=1e-4).unseen
    assert fitted.noise == pytest.approx(1e-4)
    assert np.isfinite(fitted.precision).all()


def test_a_bias_alone_can_be_fitted() -> None:
    x = np.ones((20, 1))
    y = np.random.default_rng(7).normal(0.3, 0.1, 20)
    start = Prior(mean=np.zeros(1), precision=np.ones(1), noise=0.1)
    heads = [Sums.of(x, y, np.ones(20))]
    fitted = fit_priors(heads, np.zeros(1), start, bias_sd=0.5, least_noise=1e-4).unseen
    assert fitted.mean[0] == pytest.approx(y.mean())
    assert fitted.noise == pytest.approx(0.01, rel=0.7)
