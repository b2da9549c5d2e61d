"""Probability that each of several independent normals is the largest."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from bandit_router.types import BoolArray, FloatArray

# Arms whose best 4-sd case is below another's worst hold less than 1e-4 together.
_REACH = 4.0
# Step of the even grid in sds of the sharpest arm that matters: on smooth integrands the
# trapezoid rule converges exponentially, and at one sd its error is that of the reach.
_STEP = 1.0
# Where sharp and wide arms meet, an even grid would need more points than this.
_MOST_POINTS = 64
_POINTS = np.arange(_MOST_POINTS, dtype=np.float64)[:, None]
# Quantiles (in standard deviations) that every arm contributes to the grid then.
_FINE = np.linspace(-3.2, 3.2, 19)
_COARSE = np.linspace(-3.2, 3.2, 13)
_LEAST_SD = 1e-9
# Arrays, since a ufunc takes them faster than floats.
_FAR = np.array(40.0)
_MINUS_HALF = np.array(-0.5)
# Keeps quotients of cdfs finite; what lies below it has no weight in any pmf.
_LEAST_CDF = 1e-150


def argmax_pmf(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """P(arm k is the argmax) for U_k ~ N(mean_k, sd_k²), independent. Shapes (K,) -> (K,).

    K = 2 in closed form; otherwise ∫ φ_k Π_{j≠k} Φ_j by the trapezoid rule on one common grid:
    an even one where arms are about as wide, one made of every arm's own quantiles where sharp
    and wide arms meet. Normalised; the error against the exact integral is below 5e-3.
    """
    count = mean.size
    if count == 1:
        return np.ones(1)
    # On so few numbers Python's own loops are quicker than array calls.
    means, sds = mean.tolist(), sd.tolist()
    if min(sds) < _LEAST_SD:
        sd = np.maximum(sd, _LEAST_SD)
        sds = sd.tolist()
    if count == 2:
        first = float(ndtr((means[0] - means[1]) / math.hypot(*sds)))
        return np.array([first, 1.0 - first])
    low = max([m - _REACH * s for m, s in zip(means, sds, strict=True)])
    highest = [m + _REACH * s for m, s in zip(means, sds, strict=True)]
    step = _STEP * min([s for s, high in zip(sds, highest, strict=True) if high >= low])
    points = int((max(highest) - low) / step) + 2
    if points > _MOST_POINTS:
        return _by_quantiles(mean - max(means), sd)
    # (points, K). The grid begins at most 4 sds below any arm, so no cdf is near zero; far
    # above an arm all is one.
    z = step * _POINTS[:points] - (mean - low)
    z /= sd
    every = _densities(z)
    mass = every.dot(z)
    mass /= sd
    mass /= math.fsum(mass.tolist())
    return np.asarray(mass)


def _densities(z: FloatArray) -> FloatArray:
    """ΠΦ over the arms, the last axis, at each grid point z (..., K); z becomes what that is to be
    weighted with, φ_k / Φ_k. The step and √2π fall out in the end."""
    np.minimum(z, _FAR, out=z)
    below = ndtr(z)
    every = np.multiply.reduce(below, axis=-1)
    z *= z
    z *= _MINUS_HALF
    np.exp(z, out=z)
    z /= below
    return np.asarray(every)


def argmax_pmf_of_rows(mean: FloatArray, sd: FloatArray, eligible: BoolArray) -> FloatArray:
    """``argmax_pmf`` for each row of (N, K), zero where not eligible; no row is without arms.

    The rows share the number of grid points of the one that needs most; points beyond a row's
    own reach have no weight in it.
    """
    if not eligible.all():
        # So far below that nothing of it is left.
        reach = 1.0 + mean.max() - mean.min() + 100.0 * float(sd.max())
        mean = np.where(eligible, mean, mean.min() - reach)
    if mean.shape[1] == 1:
        return np.ones_like(mean)
    sd = np.maximum(sd, _LEAST_SD)
    if mean.shape[1] == 2:
        first = ndtr((mean[:, 0] - mean[:, 1]) / np.hypot(sd[:, 0], sd[:, 1]))
        return np.stack([first, 1.0 - first], axis=1)
    low = (mean - _REACH * sd).max(axis=1)
    high = mean + _REACH * sd
    step = _STEP * np.where(high >= low[:, None], sd, np.inf).min(axis=1)
    points = ((high.max(axis=1) - low) / step).astype(np.int64) + 2
    pmf = np.empty_like(mean)
    for row in np.flatnonzero(points > _MOST_POINTS).tolist():
        pmf[row] = argmax_pmf(mean[row], sd[row])
    even = np.flatnonzero(points <= _MOST_POINTS)
    if even.size == 0:
        return pmf
    # (rows, points, K), as for one row.
    own_sd = sd[even, None, :]
    z = step[even, None, None] * _POINTS[: int(points[even].max())]
    z = (z - (mean[even] - low[even, None])[:, None, :]) / own_sd
    every = _densities(z)
    mass = np.matmul(every[:, None, :], z)[:, 0, :] / sd[even]
    pmf[even] = mass / mass.sum(axis=1, keepdims=True)
    return pmf


def _by_quantiles(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """The same for arms of very different widths: Σ over grid cells of the arm's own mass times
    the chance that all others lie below."""
    low = mean - _REACH * sd
    alive = np.flatnonzero(mean + _REACH * sd >= low.max())
    if alive.size < mean.size:
        pmf = np.zeros(mean.size)
        pmf[alive] = argmax_pmf(mean[alive], sd[alive])
        return pmf
    nodes = _FINE if mean.size <= 4 else _COARSE
    grid = (mean[:, None] + sd[:, None] * nodes).ravel()
    grid.sort()
    grid = grid[max(int(grid.searchsorted(low.max())) - 1, 0) :]
    below = ndtr((grid - mean[:, None]) / sd[:, None])
    np.maximum(below, _LEAST_CDF, out=below)
    others = np.multiply.reduce(below, axis=0) / below
    mass = ((below[:, 1:] - below[:, :-1]) * (others[:, 1:] + others[:, :-1])).sum(axis=1)
    return np.asarray(mass / mass.sum())
