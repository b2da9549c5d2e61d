"""The posterior against the textbook formula in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.posterior import (
    REFRESH_EVERY,
    Posterior,
    Prior,
    Sums,
    from_sums,
    mean_and_variance,
    with_revision,
    with_row,
    without_row,
)
from bandit_router.types import FloatArray

DIMENSION = 6


def make_prior(dimension: int = DIMENSION, noise: float = 0.2) -> Prior:
    rng = np.random.default_rng(1)
    return Prior(
        mean=rng.normal(size=dimension),
        precision=rng.uniform(0.5, 4.0, dimension),
        noise=noise,
    )


def make_rows(
    count: int, dimension: int = DIMENSION, seed: int = 2
) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimension))
    x[:, 0] = 1.0
    return x, rng.uniform(size=count), rng.uniform(0.1, 1.0, count)


def textbook(
    prior: Prior, x: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance by Bishop 2006, equations 3.50 and 3.51, with weighted rows."""
    precision = np.diag(prior.precision) + (x.T * w) @ x / prior.noise
    covariance = np.linalg.inv(precision)
    right = np.diag(prior.precision) @ prior.mean + x.T @ (w * y) / prior.noise
    return covariance @ right, covariance


def whole(lower: FloatArray) -> FloatArray:
    """The symmetric matrix whose lower triangle is kept."""
    return np.tril(lower) + np.tril(lower, -1).T


def chained(
    prior: Prior, x: FloatArray, y: FloatArray, w: FloatArray, start: Posterior | None = None
) -> Posterior:
    posterior = start or from_sums(Sums.empty(x.shape[1]), prior)
    for row, value, weight in zip(x, y, w, strict=True):
        posterior = with_row(posterior, prior, row, float(value), float(weight))
    return posterior


def assert_same(one: Posterior, other: Posterior, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(one.mean, other.mean, atol=tolerance)
    np.testing.assert_allclose(whole(one.covariance), whole(other.covariance), atol=tolerance)


def test_one_row_worked_by_hand() -> None:
    # N(0, 1) on one weight, noise 1; y = 1 at x = 2: precision 5, mean 2/5.
    prior = Prior(mean=np.zeros(1), precision=np.ones(1), noise=1.0)
    posterior = chained(prior, np.array([[2.0]]), np.array([1.0]), np.array([1.0]))
    assert posterior.mean[0] == pytest.approx(0.4, abs=1e-15)
    assert posterior.covariance[0, 0] == pytest.approx(0.2, abs=1e-15)
    mean, variance = mean_and_variance(posterior, np.array([3.0]))
    assert mean == pytest.approx(1.2, abs=1e-15)
    assert variance == pytest.approx(1.8, abs=1e-15)


def test_nothing_seen_is_the_prior() -> None:
    prior = make_prior()
    posterior = from_sums(Sums.empty(DIMENSION), prior)
    np.testing.assert_allclose(posterior.mean, prior.mean, atol=1e-15)
    np.testing.assert_allclose(
        whole(posterior.covariance), np.diag(1 / prior.precision), atol=1e-15
    )


@pytest.mark.parametrize("dimension", [1, 2, 6, 40])
def test_sums_give_the_textbook_posterior(dimension: int) -> None:
    prior = make_prior(dimension)
    x, y, w = make_rows(50, dimension)
    posterior = from_sums(Sums.of(x, y, w), prior)
    mean, covariance = textbook(prior, x, y, w)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-11)
    np.testing.assert_allclose(whole(posterior.covariance), covariance, atol=1e-11)


@pytest.mark.parametrize("count", [1, REFRESH_EVERY - 1, REFRESH_EVERY, REFRESH_EVERY + 1, 300])
def test_row_by_row_is_all_at_once(count: int) -> None:
    prior = make_prior()
    x, y, w = make_rows(count)
    stepped = chained(prior, x, y, w)
    assert_same(stepped, from_sums(Sums.of(x, y, w), prior), 1e-11)
    assert stepped.stale <= REFRESH_EVERY


def test_sums_added_row_by_row_are_the_sums_of_all() -> None:
    x, y, w = make_rows(20)
    sums = Sums.empty(DIMENSION)
    for row, value, weight in zip(x, y, w, strict=True):
        sums = sums.plus(row, float(value), float(weight))
    at_once = Sums.of(x, y, w)
    np.testing.assert_allclose(whole(sums.gram), whole(at_once.gram), atol=1e-12)
    np.testing.assert_allclose(sums.moment, at_once.moment, atol=1e-12)
    for name in ("square", "total", "weight"):
        assert getattr(sums, name) == pytest.approx(getattr(at_once, name), abs=1e-12)


def test_the_order_of_rows_does_not_matter() -> None:
    prior = make_prior()
    x, y, w = make_rows(100)
    order = np.random.default_rng(5).permutation(100)
    assert_same(chained(prior, x, y, w), chained(prior, x[order], y[order], w[order]))


def test_a_revision_ends_where_the_final_value_alone_would() -> None:
    prior = make_prior()
    x, y, w = make_rows(30)
    final = y.copy()
    final[7] = 0.125
    revised = with_revision(chained(prior, x, y, w), prior, x[7], float(y[7]), 0.125, float(w[7]))
    assert_same(revised, chained(prior, x, final, w))
    # And what comes later finds the same sums.
    more, values, weights = make_rows(REFRESH_EVERY + 5, seed=9)
    assert_same(
        chained(prior, more, values, weights, revised),
        chained(prior, np.vstack([x, more]), np.r_[final, values], np.r_[w, weights]),
    )


def test_a_retraction_ends_where_the_row_never_came() -> None:
    prior = make_prior()
    x, y, w = make_rows(30)
    left = np.delete(np.arange(30), 7)
    retracted = without_row(chained(prior, x, y, w), prior, x[7], float(y[7]), float(w[7]))
    assert_same(retracted, from_sums(Sums.of(x[left], y[left], w[left]), prior))


def test_retracting_every_row_leads_back_to_the_prior() -> None:
    prior = make_prior()
    x, y, w = make_rows(40)
    posterior = chained(prior, x, y, w)
    for row, value, weight in zip(x, y, w, strict=True):
        posterior = without_row(posterior, prior, row, float(value), float(weight))
    np.testing.assert_allclose(posterior.mean, prior.mean, atol=1e-9)
    np.testing.assert_allclose(whole(posterior.covariance), np.diag(1 / prior.precision), atol=1e-9)


def test_forgetting_by_age_is_the_recursion_towards_the_prior() -> None:
    prior = make_prior()
    x, y, _ = make_rows(120)
    keep = 0.95
    precision = np.diag(prior.precision)
    right = prior.precision * prior.mean
    for row, value in zip(x, y, strict=True):
        precision = (
            keep * precision
            + (1.0 - keep) * np.diag(prior.precision)
            + np.outer(row, row) / prior.noise
        )
        right = (
            keep * right + (1.0 - keep) * prior.precision * prior.mean + row * value / prior.noise
        )
    by_age = from_sums(Sums.of(x, y, keep ** np.arange(119, -1, -1)), prior)
    np.testing.assert_allclose(np.linalg.inv(whole(by_age.covariance)), precision, rtol=1e-9)
    np.testing.assert_allclose(by_age.mean, np.linalg.solve(precision, right), atol=1e-10)
    stepped = Sums.empty(DIMENSION)
    for row, value in zip(x, y, strict=True):
        stepped = stepped.scaled(keep).plus(row, float(value), 1.0)
    assert_same(from_sums(stepped, prior), by_age)


def test_twenty_thousand_updates_without_excitation_stay_positive_definite() -> None:
    # Plain discounting turns indefinite here: half of the directions are never seen.
    prior = make_prior(8)
    rng = np.random.default_rng(3)
    posterior = from_sums(Sums.empty(8), prior)
    for step in range(20_000):
        x = np.zeros(8)
        x[:4] = rng.normal(size=4)
        x[1] = x[0]
        posterior = with_row(posterior, prior, x, float(rng.uniform()), 1.0)
        if step % 50 == 49:
            posterior = from_sums(posterior.sums.scaled(0.8), prior)
    eigenvalues = np.linalg.eigvalsh(whole(posterior.covariance))
    assert eigenvalues[0] > 0.0
    assert eigenvalues[-1] <= (1.0 / prior.precision).max() * (1.0 + 1e-9)
    # What was never seen is believed as before.
    np.testing.assert_allclose(posterior.mean[4:], prior.mean[4:], atol=1e-9)
    np.testing.assert_allclose(
        np.diagonal(posterior.covariance)[4:], 1.0 / prior.precision[4:], rtol=1e-9
    )


def test_rounding_that_leaves_the_sums_indefinite_is_mended() -> None:
    prior = Prior(mean=np.zeros(2), precision=np.full(2, 1e-12), noise=1.0)
    x = np.array([1e4, 1.0 / 3.0])
    posterior = with_row(from_sums(Sums.empty(2), prior), prior, x, 0.5, 1.0)
    posterior = without_row(posterior, prior, x * (1.0 + 1e-16), 0.5, 1.0)
    assert np.isfinite(posterior.mean).all()
    assert (np.diagonal(posterior.covariance) > 0.0).all()


def test_sums_that_no_rows_can_have_are_refused() -> None:
    prior = make_prior(2)
    with pytest.raises(FloatingPointError, match="not positive definite"):
        from_sums(Sums.empty(2).plus(np.array([10.0, 0.0]), 0.5, -1.0), prior)


def test_updates_leave_their_input_as_it_was() -> None:
    prior = make_prior()
    x, y, w = make_rows(10)
    before = chained(prior, x, y, w)
    kept = (before.mean.copy(), before.covariance.copy(), before.sums.gram.copy())
    with_row(before, prior, x[0], 0.3, 1.0)
    with_revision(before, prior, x[0], float(y[0]), 0.9, float(w[0]))
    without_row(before, prior, x[0], float(y[0]), float(w[0]))
    before.sums.scaled(0.5)
    for old, now in zip(kept, (before.mean, before.covariance, before.sums.gram), strict=True):
        np.testing.assert_array_equal(old, now)
