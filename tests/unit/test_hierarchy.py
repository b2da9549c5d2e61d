"""The noise, scales and common weights that the evidence of all heads picks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bandit_router.hierarchy import (
    Family,
    Priors,
    evidence_and_slopes,
    fit_priors,
    standardised,
)
from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray

START = Prior(mean=np.array([0.5, 0.0, 0.0]), precision=np.ones(3), noise=0.1)


def rows(count: int, dimension: int, seed: int) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(count, dimension))
    x[:, 0] = 1.0
    return x


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
    assert 0.07 < scale[1:4].min() <= scale[1:4].max() < 0.6
    assert scale[4:].max() < 0.1 * scale[1:4].min()


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


def family_of(heads: list[Sums], least_noise: float = 1e-4) -> Family:
    level = sum(sums.total for sums in heads) / sum(sums.weight for sums in heads)
    return Family(
        heads=tuple(standardised(sums, 0.1 * (k + 1), level) for k, sums in enumerate(heads)),
        index=np.array([0, 1, 2]),
        bias_sd=0.5,
        least_noise=least_noise,
    )


def related_heads() -> tuple[list[Sums], FloatArray, FloatArray]:
    """Three heads' sums, and the rows and values behind them, (3, 8, 3) and (3, 8)."""
    rng = np.random.default_rng(9)
    x = np.stack([rows(8, 3, seed=60 + k) for k in range(3)])
    weights = np.array([0.5, 0.2, -0.1]) + rng.normal(0.0, 0.05, (3, 3))
    y = np.einsum("kij,kj->ki", x, weights) + rng.normal(0.0, 0.1, (3, 8))
    return [Sums.of(x[k], y[k], np.ones(8)) for k in range(3)], x, y


def test_evidence_of_all_heads_is_the_density_of_their_rows_together() -> None:
    heads, x, y = related_heads()
    family = family_of(heads)
    theta = np.array([-1.0, 0.3, -0.5, 0.2, -0.8])
    noise, deviation, common = family.scales(theta)
    spread = np.array([head.spread for head in family.heads])
    # What two rows share: the head's bias and deviation if they are of one head, and always
    # the weights in common, in units of either head's spread.
    units = np.repeat(np.sqrt(spread), 8)
    stacked = x.reshape(24, 3)
    same = np.kron(np.eye(3), np.ones((8, 8)))
    shared = np.outer(units, units) * (stacked[:, 1:] * common**2 @ stacked[:, 1:].T)
    own = np.outer(units, units) * (stacked[:, 1:] * deviation**2 @ stacked[:, 1:].T)
    covariance = shared + same * (own + 0.5**2) + np.diag(np.repeat(noise * spread, 8))
    direct = multivariate_normal(mean=np.full(24, y.mean()), cov=covariance).logpdf(y.ravel())
    assert evidence_and_slopes(family, theta)[0] == pytest.approx(direct, abs=1e-9)


@pytest.mark.parametrize("least_noise", [1e-4, 0.08])
def test_the_search_is_led_by_the_slopes_of_the_evidence(least_noise: float) -> None:
    # At the second least noise the first two heads are held there, the third is not.
    family = family_of(related_heads()[0], least_noise)
    theta = np.array([-1.0, 0.3, -0.5, 0.2, -0.8])
    step = 1e-5 * np.eye(5)
    numeric = [
        (evidence_and_slopes(family, theta + h)[0] - evidence_and_slopes(family, theta - h)[0])
        / 2e-5
        for h in step
    ]
    np.testing.assert_allclose(evidence_and_slopes(family, theta)[1], numeric, rtol=1e-5)


def heads_of(weights: FloatArray, count: int) -> list[Sums]:
    """One head per row of weights, each with ``count`` rows about its own line."""
    rng = np.random.default_rng(11)
    heads = []
    for k, own in enumerate(weights):
        x = rows(count, own.size, seed=70 + k)
        heads.append(Sums.of(x, x @ own + rng.normal(0.0, 0.3, count), np.ones(count)))
    return heads


GROUPS = np.array([0.0] + [1.0] * 20)


def test_heads_that_are_alike_teach_one_of_which_little_is_seen() -> None:
    common = np.r_[0.6, np.random.default_rng(12).normal(0.0, 0.1, 20)]
    heads = [*heads_of(np.stack([common, common]), 400), Sums.empty(21)]
    start = Prior(mean=np.zeros(21), precision=np.ones(21), noise=0.1)
    fitted = fit_priors(heads, GROUPS, start, bias_sd=0.5, least_noise=1e-4)
    told = fitted.arms[2]
    assert np.abs(told.mean[1:] - common[1:]).max() < 0.05
    # What the other two say is believed: a deviation is expected to be small.
    assert (told.precision[1:] ** -0.5 < 0.05).all()


def test_heads_that_are_unlike_are_not_drawn_together() -> None:
    weights = np.random.default_rng(13).normal(0.0, 0.1, (3, 21))
    weights[:, 0] = 0.6
    heads = heads_of(weights, 400)
    start = Prior(mean=np.zeros(21), precision=np.ones(21), noise=0.1)
    fitted = fit_priors(heads, GROUPS, start, bias_sd=0.5, least_noise=1e-4)
    for prior, own in zip(fitted.arms, weights, strict=True):
        assert np.abs(prior.mean[1:]).max() < 0.06
        width = prior.precision[1:] ** -0.5
        assert 0.06 < width.mean() < 0.2
        assert (np.abs(own[1:]) < 4.0 * width).all()


def test_a_head_is_not_centred_at_what_its_own_rows_say() -> None:
    weights = np.random.default_rng(14).normal(0.0, 0.1, (1, 21))
    heads = [*heads_of(weights, 400), Sums.empty(21)]
    start = Prior(mean=np.zeros(21), precision=np.ones(21), noise=0.1)
    seen, unseen = fit_priors(heads, GROUPS, start, bias_sd=0.5, least_noise=1e-4).arms
    assert (seen.mean[1:] == 0.0).all()
    assert np.abs(unseen.mean[1:]).max() > 0.01


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
