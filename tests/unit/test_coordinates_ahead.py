"""Coordinates made many at a time are those of each request, under whichever map holds."""

from __future__ import annotations

import numpy as np

from bandit_router.basis import coordinates, fit_basis
from bandit_router.protocols import FeatureBlock
from simulations.coordinates_ahead import CoordinatesAhead


def test_coordinates_ahead_are_each_requests_own_also_after_the_map_changed() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    order = rng.integers(0, 60, 700)
    names, blocks = ("a", "b", "c"), (FeatureBlock("surface", 0, 3),)
    first = fit_basis(features[:30].astype(np.float64), names, blocks)
    then = fit_basis(features.astype(np.float64), names, blocks)
    ahead = CoordinatesAhead(features, order)
    for step in (0, 1, 511, 512, 600, 3):
        for basis in (first, then):
            own = coordinates(basis, features[order[step]].astype(np.float64))
            np.testing.assert_allclose(ahead.at(basis, step), own, rtol=1e-9, atol=1e-12)


def test_what_is_handed_out_can_be_changed_without_harm() -> None:
    features = np.arange(8.0).reshape(4, 2)
    basis = fit_basis(features, ("a", "b"), (FeatureBlock("surface", 0, 2),))
    ahead = CoordinatesAhead(features, np.arange(4))
    before = ahead.at(basis, 1).copy()
    ahead.at(basis, 1)[:] = 0.0
    np.testing.assert_array_equal(ahead.at(basis, 1), before)
