"""The learned coordinates: from stored features to the few numbers that the heads see.

Extractors are fixed and their output is stored; what is learned of them is this affine map,
fitted without rewards from the features of past decisions and kept in the snapshot. So a
decision can always be recomputed from its stored features and its snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.protocols import FeatureBlock
from bandit_router.types import FloatArray

# A block wider than this is compressed by its principal components; a narrower one is not.
WIDE_BLOCK = 64
MOST_COMPONENTS = 32
# One component is earned by this many rows: fewer would be fitted to noise.
ROWS_PER_COMPONENT = 12
_LEAST_VARIANCE = 1e-8
# Standardised features are cut here, so that one odd prompt cannot lever a posterior.
_MOST_DEVIATION = 4.0


@dataclass(frozen=True, slots=True)
class Basis:
    """z = (1, clip((x − shift) @ matrix)).

    shift: (n,). matrix: (n, d−1). groups: (d,) index of the group that each coordinate shares
    its prior scale with; 0 is the bias. names: (d,) what each coordinate is.
    """

    shift: FloatArray
    matrix: FloatArray
    groups: FloatArray
    names: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """d, the bias included."""
        return self.groups.size


def coordinates(basis: Basis, features: FloatArray) -> FloatArray:
    """(d,) coordinates of one request's (n,) features."""
    z = np.empty(basis.groups.size)
    z[0] = 1.0
    np.clip((features - basis.shift) @ basis.matrix, -_MOST_DEVIATION, _MOST_DEVIATION, out=z[1:])
    return z


def coordinates_of_rows(basis: Basis, features: FloatArray) -> FloatArray:
    """(N, d) coordinates of (N, n) features."""
    z = np.empty((features.shape[0], basis.groups.size))
    z[:, 0] = 1.0
    np.clip(
        (features - basis.shift) @ basis.matrix, -_MOST_DEVIATION, _MOST_DEVIATION, out=z[:, 1:]
    )
    return z


def cold_basis(names: Sequence[str], blocks: Sequence[FeatureBlock]) -> Basis:
    """Before any row is known: narrow blocks as they are, wide ones left out."""
    keep = [i for b in blocks if b.stop - b.start <= WIDE_BLOCK for i in range(b.start, b.stop)]
    matrix = np.zeros((len(names), len(keep)))
    matrix[keep, range(len(keep))] = 1.0
    return Basis(
        shift=np.zeros(len(names)),
        matrix=matrix,
        groups=_groups(blocks, [[i for i in keep if b.start <= i < b.stop] for b in blocks]),
        names=("bias", *(names[i] for i in keep)),
    )


def fit_basis(features: FloatArray, names: Sequence[str], blocks: Sequence[FeatureBlock]) -> Basis:
    """Standardise narrow blocks and compress wide ones, from (N, n) features of past decisions.

    Columns that never varied are dropped, so an unused metadata key costs nothing. Principal
    components keep their own variances (only the block's overall scale is set to one), which
    makes the small ones count less, as ridge regression on the whole block would.
    """
    count = features.shape[0]
    shift = features.mean(axis=0)
    variance = features.var(axis=0)
    columns: list[FloatArray] = []
    kept_names = ["bias"]
    members: list[list[int]] = []
    for block in blocks:
        inside = [i for i in range(block.start, block.stop) if variance[i] > _LEAST_VARIANCE]
        if block.stop - block.start <= WIDE_BLOCK:
            for i in inside:
                column = np.zeros(len(names))
                column[i] = 1.0 / np.sqrt(variance[i] + _LEAST_VARIANCE)
                columns.append(column)
                kept_names.append(names[i])
            members.append(inside)
            continue
        size = min(MOST_COMPONENTS, count // ROWS_PER_COMPONENT, len(inside))
        directions = _principal_directions(features[:, inside] - shift[inside], size)
        for j in range(size):
            column = np.zeros(len(names))
            column[inside] = directions[:, j]
            columns.append(column)
            kept_names.append(f"{block.name}.component[{j}]")
        members.append(list(range(size)))
    matrix = np.stack(columns, axis=1) if columns else np.zeros((len(names), 0))
    return Basis(
        shift=shift, matrix=matrix, groups=_groups(blocks, members), names=tuple(kept_names)
    )


def _principal_directions(centred: FloatArray, size: int) -> FloatArray:
    """(m, size) leading eigenvectors of the covariance, scaled so that coordinates have mean
    variance one; each sign is fixed by its largest entry, so that refits do not flip it."""
    if size == 0:
        return np.zeros((centred.shape[1], 0))
    values, vectors = np.linalg.eigh(centred.T @ centred / centred.shape[0])
    leading = vectors[:, ::-1][:, :size]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), range(size)])
    scale = 1.0 / np.sqrt(max(float(values[::-1][:size].mean()), _LEAST_VARIANCE))
    return np.asarray(leading * signs * scale)


def _groups(blocks: Sequence[FeatureBlock], members: Sequence[Sequence[int]]) -> FloatArray:
    """(d,) group per coordinate: 0 for the bias, then 1, 2 … for blocks that have any."""
    groups = [0.0]
    index = 0
    for _, inside in zip(blocks, members, strict=True):
        if inside:
            index += 1
            groups.extend([float(index)] * len(inside))
    return np.array(groups)
