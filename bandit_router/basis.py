"""The learned coordinates: from stored features to the few numbers that the heads see.

Extractors are fixed and their output is stored; what is learned of them is this map, fitted
without rewards from the features of past decisions and kept in the snapshot. So a decision can
always be recomputed from its stored features and its snapshot. Named statistics are coordinates
themselves; text enters by how like past requests the whole request is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit_router.likeness import (
    Likeness,
    fit_likeness,
    likeness_coordinates,
    principal_directions,
)
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FloatArray

# A block in which more columns than this vary is compressed by its principal components; others
# are not.
WIDE_BLOCK = 64
MOST_COMPONENTS = 32
MOST_LIKENESSES = 32
# One component is earned by this many rows: fewer would be fitted to noise.
ROWS_PER_COMPONENT = 12
_LEAST_VARIANCE = 1e-8
# Standardised features are cut here, so that one odd prompt cannot lever a posterior.
_MOST_DEVIATION = 4.0


@dataclass(frozen=True, slots=True)
class Basis:
    """z = (1, u[:plain], likeness(u)) with u = clip((x − shift) @ matrix).

    shift: (n,). matrix: (n, p): the first ``plain`` columns are coordinates themselves, the
    principal components of wide blocks follow. Without a likeness only they count.
    groups: (d,) index of the group that each coordinate shares its prior scale with; 0 is the
    bias. names: (d,) what each coordinate is.
    """

    shift: FloatArray
    matrix: FloatArray
    groups: FloatArray
    names: tuple[str, ...]
    plain: int
    likeness: Likeness | None = None

    @property
    def dimension(self) -> int:
        """d, the bias included."""
        return self.groups.size


def coordinates(basis: Basis, features: FloatArray) -> FloatArray:
    """(d,) coordinates of one request's (n,) features."""
    z = np.empty(basis.groups.size)
    _fill(basis, features, z)
    return z


def coordinates_of_rows(basis: Basis, features: FloatArray) -> FloatArray:
    """(N, d) coordinates of (N, n) features."""
    z = np.empty((features.shape[0], basis.groups.size))
    _fill(basis, features, z)
    return z


def _fill(basis: Basis, features: FloatArray, z: FloatArray) -> None:
    u = _inner(basis.shift, basis.matrix, features)
    plain = basis.plain
    z[..., 0] = 1.0
    z[..., 1 : plain + 1] = u[..., :plain]
    if basis.likeness is not None:
        z[..., plain + 1 :] = likeness_coordinates(basis.likeness, u)


def _inner(shift: FloatArray, matrix: FloatArray, features: FloatArray) -> FloatArray:
    u = (features - shift) @ matrix
    np.minimum(u, _MOST_DEVIATION, out=u)
    np.maximum(u, -_MOST_DEVIATION, out=u)
    return np.asarray(u)


def cold_basis(names: Sequence[str], blocks: Sequence[FeatureBlock]) -> Basis:
    """Before any row is known: narrow blocks as they are, wide ones left out."""
    keep = [i for b in blocks if b.stop - b.start <= WIDE_BLOCK for i in range(b.start, b.stop)]
    matrix = np.zeros((len(names), len(keep)))
    matrix[keep, range(len(keep))] = 1.0
    return Basis(
        shift=np.zeros(len(names)),
        matrix=matrix,
        groups=_groups([sum(b.start <= i < b.stop for i in keep) for b in blocks]),
        names=("bias", *(names[i] for i in keep)),
        plain=len(keep),
    )


def fit_basis(features: FloatArray, names: Sequence[str], blocks: Sequence[FeatureBlock]) -> Basis:
    """Standardise narrow blocks, compress wide ones and lay likenesses, from (N, n) features of
    past decisions.

    Columns that never varied are dropped, so an unused metadata key costs nothing. Principal
    components keep their own variances (only the block's overall scale is set to one), which
    makes the small ones count less, as ridge regression on the whole block would.
    """
    count = features.shape[0]
    shift = features.mean(axis=0)
    variance = features.var(axis=0)
    plain: list[FloatArray] = []
    compressed: list[FloatArray] = []
    kept_names = ["bias"]
    sizes: list[int] = []
    for block in blocks:
        inside = [i for i in range(block.start, block.stop) if variance[i] > _LEAST_VARIANCE]
        if len(inside) > WIDE_BLOCK:
            size = min(MOST_COMPONENTS, count // ROWS_PER_COMPONENT, len(inside))
            wide = np.zeros((len(names), size))
            wide[inside] = principal_directions(features[:, inside] - shift[inside], size)
            compressed.append(wide)
            continue
        for i in inside:
            column = np.zeros((len(names), 1))
            column[i] = 1.0 / np.sqrt(variance[i] + _LEAST_VARIANCE)
            plain.append(column)
            kept_names.append(names[i])
        sizes.append(len(inside))
    matrix = np.concatenate([np.zeros((len(names), 0)), *plain, *compressed], axis=1)
    likeness = fit_likeness(
        _inner(shift, matrix, features), min(MOST_LIKENESSES, count // ROWS_PER_COMPONENT)
    )
    if likeness is not None:
        kept_names += [f"likeness[{j}]" for j in range(likeness.size)]
        sizes.append(likeness.size)
    return Basis(
        shift=shift,
        matrix=matrix,
        groups=_groups(sizes),
        names=tuple(kept_names),
        plain=len(plain),
        likeness=likeness,
    )


def _groups(sizes: Sequence[int]) -> FloatArray:
    """(d,) group per coordinate: 0 for the bias, then 1, 2 … for blocks that have any."""
    present = [size for size in sizes if size]
    return np.repeat(np.arange(len(present) + 1.0), [1, *present])
