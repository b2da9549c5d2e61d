"""Coordinates of the requests to come, many at a time, since features are known beforehand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit_router.basis import Basis, coordinates_of_rows
from bandit_router.types import FloatArray, IntArray

# Many prompts are kept in half the memory.
Features = FloatArray | NDArray[np.float32]
# Enough rows that array calls cost nothing beside the arithmetic, few enough to stay in cache.
_ROWS = 256


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
        """Coordinates of the request at ``step`` under ``basis``."""
        place = step - self._start
        if basis is not self._basis or not 0 <= place < self._z.shape[0]:
            rows = self._order[step : step + _ROWS]
            self._basis, self._start, place = basis, step, 0
            self._z = coordinates_of_rows(basis, self._features[rows].astype(np.float64))
        return np.array(self._z[place])
