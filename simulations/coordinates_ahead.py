"""Coordinates of the requests to come, many at a time, since features are known beforehand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit_router.basis import Basis, coordinates_of_rows
from bandit_router.types import FloatArray, IntArray

# Many prompts are kept in half the memory.
Features = FloatArray | NDArray[np.float32]
# Enough rows that array calls cost nothing beside the arithmetic, few enough to stay in cache.
_ROWS = 512


class CoordinatesAhead:
    """(d,) coordinates request by request, made anew whenever the map changes.

    features: (N, n) of all prompts. order: (n,) which prompt comes when.
    """

    def __init__(self, features: Features, order: IntArray) -> None:
        self._features = features
        self._order = order
        self._basis: Basis | None = None
        self._start = 0
        self._z = np.zeros((0, 0))

    def at(self, basis: Basis, step: int) -> FloatArray:
        """(d,) coordinates of the request at ``step`` under ``basis``."""
        return np.array(self.many(basis, slice(step, step + 1))[0])

    def many(self, basis: Basis, steps: slice) -> FloatArray:
        """(N, d) coordinates of the requests at ``steps``, not to be written to."""
        first, last = steps.start - self._start, steps.stop - self._start
        if basis is not self._basis or first < 0 or last > self._z.shape[0]:
            rows = self._order[steps.start : max(steps.start + _ROWS, steps.stop)]
            self._basis, self._start = basis, steps.start
            self._z = coordinates_of_rows(basis, self._features[rows].astype(np.float64))
            first, last = 0, steps.stop - steps.start
        return self._z[first:last]
