"""P(arm is the best) against closed forms, symmetry and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bandit_router.pmf import argmax_pmf
from bandit_router.types import FloatArray

DRAWS = 1_000_000
CHUNK = 50_000


def monte_carlo(mean: FloatArray, sd: FloatArray, seed: int) -> FloatArray:
    """Shares of a million draws in which each arm is the largest."""
    rng = np.random.default_rng(seed)
    wins = np.zeros(mean.size)
    for _ in range(DRAWS // CHUNK):
        best = (mean + sd * rng.standard_normal((CHUNK, mean.size))).argmax(axis=1)
        wins += np.bincount(best, minlength=mean.size)
    return wins / DRAWS


def widths(kind: str, count: int, rng: np.random.Generator) -> FloatArray:
    """Standard deviations: alike, of every size, or a few cold arms beside sharp ones."""
    if kind == "alike":
        return np.full(count, 0.05)
    if kind == "every size":
        return np.exp(rng.uniform(np.log(1e-3), np.log(0.5), count))
    sd = rng.uniform(0.002, 0.01, count)
    sd[: max(1, count // 4)] = 0.4
    return sd


@pytest.mark.parametrize("kind", ["alike", "every size", "cold beside sharp"])
@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_pmf_matches_a_million_draws(count: int, kind: str) -> None:
    rng = np.random.default_rng([count, len(kind)])
    mean = 0.7 + rng.uniform(-0.05, 0.05, count)
    sd = widths(kind, count, rng)
    pmf = argmax_pmf(mean, sd)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)
    assert (pmf >= 0.0).all()
    # The frequencies' own standard error is at most 5e-4.
    np.testing.assert_allclose(pmf, monte_carlo(mean, sd, seed=count), atol=5e-3)


@pytest.mark.parametrize(
    ("mean", "sd"),
    [
        # One cold arm among seven sharp ones that lie closer than its width.
        ([0.9, 0.9, 0.91, 0.92, 0.9, 0.89, 0.9, 0.9], [1.0] + [1e-3] * 7),
        # A cold arm that is believed to be much worse, and still wins now and then.
        ([0.2, 0.8, 0.81], [0.5, 1e-4, 1e-4]),
        # Two sharp arms that lie apart on the flank of a wide one.
        ([0.0, 1.5, 1.5001], [1.0, 1e-6, 1e-6]),
        # Widths over six powers of ten.
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
    ],
)
def test_pmf_resolves_sharp_arms_beside_wide_ones(mean: list[float], sd: list[float]) -> None:
    means, sds = np.array(mean), np.array(sd)
    np.testing.assert_allclose(argmax_pmf(means, sds), monte_carlo(means, sds, seed=7), atol=5e-3)


@pytest.mark.parametrize(
    ("mean", "sd"),
    [
        ([0.0, 0.0], [1.0, 1.0]),
        ([0.3, 0.1], [0.2, 0.05]),
        ([0.1, 0.3], [1e-6, 3.0]),
        ([5.0, 5.2], [0.01, 0.02]),
    ],
)
def test_two_arms_have_the_closed_form(mean: list[float], sd: list[float]) -> None:
    first = norm.cdf((mean[0] - mean[1]) / np.hypot(*sd))
    pmf = argmax_pmf(np.array(mean), np.array(sd))
    np.testing.assert_allclose(pmf, [first, 1.0 - first], atol=1e-12)


def test_three_arms_with_one_certain_have_a_closed_form() -> None:
    # Against a certain 0: P(both others below it) is the product of their tails.
    pmf = argmax_pmf(np.array([0.0, -1.0, 0.5]), np.array([0.0, 1.0, 1.0]))
    assert pmf[0] == pytest.approx(norm.cdf(1.0) * norm.cdf(-0.5), abs=5e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 32])
def test_arms_that_are_alike_share_alike(count: int) -> None:
    pmf = argmax_pmf(np.full(count, 0.4), np.full(count, 0.1))
    np.testing.assert_allclose(pmf, np.full(count, 1.0 / count), atol=1e-12)


def test_mirrored_arms_mirror_their_shares() -> None:
    pmf = argmax_pmf(np.array([0.2, 0.5, 0.5, 0.2]), np.array([0.3, 0.1, 0.1, 0.3]))
    assert pmf[0] == pytest.approx(pmf[3], abs=1e-12)
    assert pmf[1] == pytest.approx(pmf[2], abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e6, 1e12])
def test_certain_ties_share_alike_at_every_size(count: int, size: float) -> None:
    pmf = argmax_pmf(np.full(count, -size), np.zeros(count))
    np.testing.assert_allclose(pmf, np.full(count, 1.0 / count), atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e5, 1e10])
def test_a_certain_best_arm_takes_everything(size: float) -> None:
    mean = np.array([0.1, 0.9, 0.5, 0.89]) * size
    np.testing.assert_allclose(argmax_pmf(mean, np.zeros(4)), [0.0, 1.0, 0.0, 0.0], atol=1e-12)


def test_huge_gaps_leave_no_nan() -> None:
    mean = np.array([0.0, -1e12, 0.0, -1e300, -5.0])
    pmf = argmax_pmf(mean, np.array([0.1, 0.1, 0.1, 1.0, 0.0]))
    np.testing.assert_allclose(pmf, [0.5, 0.0, 0.5, 0.0, 0.0], atol=1e-9)


def test_the_arms_that_are_handed_in_stay_as_they_were() -> None:
    mean, sd = np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.2])
    argmax_pmf(mean, sd)
    np.testing.assert_array_equal(mean, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(sd, [0.0, 0.1, 0.2])
