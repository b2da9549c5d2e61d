"""Values and their standard errors from sums of columns and of products of columns.

An estimator sums C columns: one whose mean is its value; two, of which it is the ratio; or a
third before them, whose mean is added to that ratio. For its standard error the C(C+1)/2
products of any two columns are summed beside them, in the log itself and in each resample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandit_router.types import FloatArray


def row_count(column_count: int) -> int:
    """How many sums an estimator of C columns needs: its columns and their products."""
    return column_count + column_count * (column_count + 1) // 2


_COLUMNS = {row_count(count): count for count in (1, 2, 3)}


def fill(rows: FloatArray, columns: Sequence[FloatArray]) -> None:
    """Write C columns (m,) and their products, two by two, into (C + C(C+1)/2, m) rows."""
    at = len(columns)
    for i, one in enumerate(columns):
        rows[i] = one
        for other in columns[i:]:
            np.multiply(one, other, out=rows[at])
            at += 1


def values_from_sums(sums: FloatArray, count: FloatArray) -> FloatArray:
    """(B,) values from (B, R) sums of an estimator's rows and (B,) numbers of rounds."""
    size = _COLUMNS[sums.shape[1]]
    # A resample of a log of a few rounds may hold none of them, or none that the target would take.
    with np.errstate(divide="ignore", invalid="ignore"):
        if size == 1:
            return np.asarray(sums[:, 0] / count)
        ratio = sums[:, size - 2] / sums[:, size - 1]
        return np.asarray(ratio if size == 2 else sums[:, 0] / count + ratio)


def errors_from_sums(sums: FloatArray, count: FloatArray) -> FloatArray:
    """(B,) standard errors, by the delta method where there is a normaliser; NaN where it is 0."""
    size = _COLUMNS[sums.shape[1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, :size] / count[:, None]
        second = sums[:, size:] / count[:, None]
        slope = np.ones_like(mean)
        if size > 1:
            slope[:, size - 2] = 1.0 / mean[:, size - 1]
            slope[:, size - 1] = -mean[:, size - 2] / mean[:, size - 1] ** 2
        variance = np.zeros_like(count)
        at = 0
        for i in range(size):
            for j in range(i, size):
                covariance = second[:, at] - mean[:, i] * mean[:, j]
                variance += (1.0 if i == j else 2.0) * slope[:, i] * slope[:, j] * covariance
                at += 1
        return np.asarray(np.sqrt(np.maximum(variance, 0.0) / count))
