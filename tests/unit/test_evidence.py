"""The marginal likelihood, and the noise and scales that it picks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bandit_router.evidence import fit_prior, log_evidence
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
    fitted = fit_prior(heads, groups, START, bias_sd=0.5, least_noise=1e-6)
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
    fitted = fit_prior(heads, groups, start, bias_sd=0.5, least_noise=1e-6)
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
    fitted = fit_prior(heads, np.array([0.0, 1.0, 1.0]), START, bias_sd=0.5, least_noise=1e-4)
    assert (1.0 / np.sqrt(fitted.precision[1:]) < 0.1).all()


def test_without_rows_the_start_stays() -> None:
    groups = np.array([0.0, 1.0, 1.0])
    heads = [Sums.empty(3), Sums.empty(3)]
    assert fit_prior(heads, groups, START, bias_sd=0.5, least_noise=1e-4) is START


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_rewards_that_never_vary_keep_the_least_noise(value: float) -> None:
    x = rows(50, 3, seed=40)
    heads = [Sums.of(x, np.full(50, value), np.ones(50))]
    groups = np.array([0.0, 1.0, 1.0])
    fitted = fit_prior(heads, groups, START, bias_sd=0.5, least_noise=1e-4)
    assert fitted.noise == pytest.approx(1e-4)
    assert np.isfinite(fitted.precision).all()


def test_a_bias_alone_can_be_fitted() -> None:
    x = np.ones((20, 1))
    y = np.random.default_rng(7).normal(0.3, 0.1, 20)
    start = Prior(mean=np.zeros(1), precision=np.ones(1), noise=0.1)
    heads = [Sums.of(x, y, np.ones(20))]
    fitted = fit_prior(heads, np.zeros(1), start, bias_sd=0.5, least_noise=1e-4)
    assert fitted.mean[0] == pytest.approx(y.mean())
    assert fitted.noise == pytest.approx(0.01, rel=0.7)
