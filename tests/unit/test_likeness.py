"""Coordinates by likeness to past requests."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.likeness import MOST_LANDMARKS, fit_likeness, likeness_coordinates


def test_coordinates_have_mean_zero_and_mean_variance_one() -> None:
    u = np.random.default_rng(0).normal(size=(300, 4))
    likeness = fit_likeness(u, 8)
    assert likeness is not None
    assert likeness.landmarks.shape == (MOST_LANDMARKS, 4)
    z = likeness_coordinates(likeness, u)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-9)
    assert (z**2).mean() == pytest.approx(1.0)
    rows = np.stack([likeness_coordinates(likeness, row) for row in u])
    np.testing.assert_allclose(rows, z, atol=1e-9)


def test_all_landmarks_give_back_the_kernel() -> None:
    u = np.random.default_rng(1).normal(size=(30, 3))
    likeness = fit_likeness(u, 30)
    assert likeness is not None
    apart = ((u[:, None] - u) ** 2).sum(axis=2)
    kernel = np.exp(-likeness.sharpness * apart)
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    z = likeness_coordinates(likeness, u)
    gram = z @ z.T
    # Only the overall scale is set anew.
    np.testing.assert_allclose(gram * (centred.trace() / gram.trace()), centred, atol=1e-4)


def test_a_linear_head_on_them_learns_what_is_not_linear() -> None:
    rng = np.random.default_rng(2)
    u = rng.normal(size=(1200, 2))
    y = np.where(u[:, 0] * u[:, 1] > 0.0, 1.0, -1.0)
    likeness = fit_likeness(u[:600], 24)
    assert likeness is not None
    z = likeness_coordinates(likeness, u)

    def explained(x: np.ndarray) -> float:
        weights = np.linalg.solve(x[:600].T @ x[:600] + np.eye(x.shape[1]), x[:600].T @ y[:600])
        return 1.0 - float(((y[600:] - x[600:] @ weights) ** 2).mean() / y[600:].var())

    assert explained(u) < 0.02
    assert explained(z) > 0.6


def test_a_request_like_none_before_has_finite_coordinates() -> None:
    likeness = fit_likeness(np.random.default_rng(3).normal(size=(50, 3)), 4)
    assert likeness is not None
    np.testing.assert_allclose(
        likeness_coordinates(likeness, np.full(3, 1e6)), -likeness.offset, atol=1e-12
    )


def test_requests_that_are_all_alike_give_none() -> None:
    assert fit_likeness(np.ones((20, 3)), 4) is None
    assert fit_likeness(np.ones((20, 0)), 4) is None
    assert fit_likeness(np.random.default_rng(4).normal(size=(20, 3)), 0) is None
