"""A fixed random sign matrix, derived from hash bits alone.

numpy's generators may change their streams between versions; these signs never do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sign_matrix(rows: int, columns: int, seed: int) -> NDArray[np.float32]:
    """Random signs: (rows, columns) of +1 and -1, read-only.

    A unit vector times this matrix has components of mean square one, and inner products are
    kept in expectation. Source: Achlioptas 2003; bits by SplitMix64 (Steele et al. 2014).
    """
    words = -(-columns // 64)
    counter = np.arange(1, rows * words + 1, dtype=np.uint64)
    state = counter * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    octets = state.astype("<u8").view(np.uint8).reshape(rows, words * 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, :columns]
    signs = bits.astype(np.float32) * np.float32(2) - np.float32(1)
    signs.flags.writeable = False
    return signs
