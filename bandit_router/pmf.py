"""Probability that each of several independent normals is the largest."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from bandit_router.types import FloatArray

# Quantiles (in standard deviations) that every arm contributes to the common grid.
_FINE = np.linspace(-3.2, 3.2, 19)
_COARSE = np.linspace(-3.2, 3.2, 13)
# Arms whose best 4-sd case is below another's worst hold less than 1e-4 together.
_REACH = 4.0
_LEAST_SD = 1e-9
# Keeps quotients of cdfs finite; what lies below it has no weight in any pmf.
_LEAST_CDF = 1e-150


def argmax_pmf(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """P(arm k is the argmax) for U_k ~ N(mean_k, sd_k²), independent. Shapes (K,) -> (K,).

    K = 2 in closed form; otherwise ∫ Π_{j≠k} Φ_j dΦ_k by the trapezoid rule on one common
    grid made of every arm's own quantiles, so that sharp and wide arms are both resolved.
    Rows are normalised; the error against the exact integral is below 5e-3.
    """
    count = mean.size
    if count == 1:
        return np.ones(1)
    sd = np.maximum(sd, _LEAST_SD)
    if count == 2:
        gap = (mean[0] - mean[1]) / np.sqrt(sd[0] * sd[0] + sd[1] * sd[1])
        first = ndtr(gap)
        return np.array([first, 1.0 - first])
    # Only differences matter; from the best arm on they keep their digits at any size.
    mean = mean - mean.max()
    low = mean - _REACH * sd
    alive = np.flatnonzero(mean + _REACH * sd >= low.max())
    if alive.size < count:
        pmf = np.zeros(count)
        pmf[alive] = argmax_pmf(mean[alive], sd[alive])
        return pmf
    nodes = _FINE if count <= 4 else _COARSE
    grid = (mean[:, None] + sd[:, None] * nodes).ravel()
    grid.sort()
    grid = grid[max(int(grid.searchsorted(low.max())) - 1, 0) :]
    below = ndtr((grid - mean[:, None]) * (1.0 / sd)[:, None])
    np.maximum(below, _LEAST_CDF, out=below)
    every = np.multiply.reduce(below, axis=0)
    # With F the arm's own cdf and E = every / F, the trapezoid's Σ (F₁−F₀)(E₁+E₀) telescopes
    # to a constant plus Σ F₁E₀ − F₀E₁, which is two products of a matrix and a vector.
    growth = below[:, 1:] / below[:, :-1]
    mass = growth @ every[:-1] - (1.0 / growth) @ every[1:] + (every[-1] - every[0])
    np.maximum(mass, 0.0, out=mass)
    return np.asarray(mass / mass.sum())
