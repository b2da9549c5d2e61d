"""A mean and how sure it is, as tables and reports show it."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import stdtrit

from bandit_router.types import FloatArray


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over rounds with its 95 % interval. n: rounds."""

    value: float
    low: float
    high: float
    n: int


def mean_of(values: FloatArray, effective_sample_size: float | None = None) -> Mean:
    """Student's t interval for the mean of (n,) terms.

    effective_sample_size: what they are worth where they are weighted; n by default.
    """
    value, size = float(values.mean()), effective_sample_size or float(values.size)
    if values.size < 2 or size <= 1.0:
        return Mean(value, float("-inf"), float("inf"), values.size)
    error = float(values.std(ddof=1)) / values.size**0.5
    half = float(stdtrit(size - 1.0, 0.975)) * error
    return Mean(value, value - half, value + half, values.size)
