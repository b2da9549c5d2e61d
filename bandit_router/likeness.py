"""Coordinates by likeness to past requests: what a linear head cannot see in them by itself.

A radial basis function kernel, approximated by its values at some past requests (Nyström) and
compressed to the directions in which requests differ most. A linear head on these is a
Gaussian process with that kernel, at the price of a linear head.
Source: Williams & Seeger 2001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import FloatArray

MOST_LANDMARKS = 128
# Requests at the median distance from one another are alike to exp(−2): on full-information
# ridge regression of three matrices' learning halves, 1 to 3 do not differ by much.
SHARPNESS = 2.0
_LEAST_EIGENVALUE = 1e-6
_LEAST_DISTANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Likeness:
    """k(u)ᵀ @ mixing − offset, with k(u)_i = exp(−sharpness · |u − landmark_i|²).

    landmarks: (m, p). squares: (m,) their squared lengths. mixing: (m, r). offset: (r,).
    """

    landmarks: FloatArray
    squares: FloatArray
    sharpness: float
    mixing: FloatArray
    offset: FloatArray

    @property
    def size(self) -> int:
        """r, the number of coordinates."""
        return self.offset.size


def likeness_coordinates(likeness: Likeness, u: FloatArray) -> FloatArray:
    """(r,) for u (p,), or (N, r) for (N, p)."""
    alike = u @ likeness.landmarks.T
    alike *= 2.0
    alike -= likeness.squares
    alike -= (u * u).sum(axis=-1, keepdims=True)
    alike *= likeness.sharpness
    np.exp(alike, out=alike)
    return np.asarray(alike @ likeness.mixing - likeness.offset)


def fit_likeness(u: FloatArray, size: int) -> Likeness | None:
    """Landmarks evenly spread over the rows of u (N, p), and the leading ``size`` directions.

    Coordinates have mean zero over the rows, and a mean variance of one; each sign is fixed by
    its largest entry, so that refits do not flip it. None where all rows are alike.
    """
    count = u.shape[0]
    picked = np.unique(np.linspace(0, count - 1, min(MOST_LANDMARKS, count)).astype(np.int64))
    landmarks = np.ascontiguousarray(u[picked])
    squares = (landmarks * landmarks).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * landmarks @ landmarks.T, 0.0)
    distance = apart[np.triu_indices(picked.size, 1)]
    far = distance[distance > _LEAST_DISTANCE]
    if size == 0 or far.size == 0:
        return None
    sharpness = SHARPNESS / float(np.median(far))
    values, vectors = np.linalg.eigh(np.exp(-sharpness * apart))
    whitening = vectors / np.sqrt(np.maximum(values, 0.0) + _LEAST_EIGENVALUE)
    raw = Likeness(landmarks, squares, sharpness, whitening, np.zeros(picked.size))
    white = likeness_coordinates(raw, u)
    mean = white.mean(axis=0)
    directions = principal_directions(white - mean, size)
    return Likeness(landmarks, squares, sharpness, whitening @ directions, mean @ directions)


def principal_directions(centred: FloatArray, size: int) -> FloatArray:
    """(m, size) leading eigenvectors of the covariance of (N, m), scaled so that coordinates
    have mean variance one; each sign is fixed by its largest entry."""
    if size == 0:
        return np.zeros((centred.shape[1], 0))
    values, vectors = np.linalg.eigh(centred.T @ centred / centred.shape[0])
    leading = vectors[:, ::-1][:, :size]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(leading.shape[1])])
    scale = 1.0 / np.sqrt(max(float(values[::-1][:size].mean()), _LEAST_DISTANCE))
    return np.asarray(leading * signs * scale)
