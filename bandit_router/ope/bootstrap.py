"""The bootstrap by Poisson counts: each round is drawn Poisson(1) times, block by block.

Counts of different rounds are independent, so a block needs no other, and memory is bounded by
one block. Source: Chamandy et al. 2012; Hanley & MacGibbon 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, poisson
from scipy.stats import t as student_t

from bandit_router.types import FloatArray

# Poisson(1) by inverse cdf at 2¹⁶ points: mean and variance are right to 1e-4.
_POINTS = 2**16
# Rounds whose counts are held at a time.
_SLICE = 4096


def count_table() -> FloatArray:
    """(65536,) Poisson(1) counts, each as often as it is likely."""
    cdf = poisson.cdf(np.arange(16), 1.0)
    return np.searchsorted(cdf, (np.arange(_POINTS) + 0.5) / _POINTS).astype(np.float64)


@dataclass
class Resamples:
    """Column sums of B resamples, filled block by block. sums: (B, C). counts: (B,) rounds."""

    seed: int
    resamples: int
    column_count: int

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.resamples, self.column_count))
        self.counts = np.zeros(self.resamples)
        self._table = count_table()

    def add(self, index: int, columns: FloatArray) -> None:
        """Count one block. index: of the block, from which its counts follow.
        columns: (m, C)."""
        rng = np.random.default_rng([self.seed, index])
        for start in range(0, columns.shape[0], _SLICE):
            part = columns[start : start + _SLICE]
            drawn = rng.integers(0, _POINTS, (self.resamples, part.shape[0]), dtype=np.uint16)
            counts = self._table[drawn]
            self.sums += counts @ part
            self.counts += counts.sum(axis=1)


def percentile_interval(
    replicates: FloatArray, value: float, level: float, effective_sample_size: float
) -> tuple[float, float]:
    """The interval that holds ``level`` of the replicates, widened for few rounds.

    replicates: (B,). A plain percentile interval is as narrow as a normal one with the sample's
    variance over n; the factor is that of Student's t with the effective sample size.
    Source: Hesterberg 2015, expanded percentiles.
    """
    tail = 0.5 * (1.0 - level)
    freedom = max(effective_sample_size - 1.0, 1.0)
    factor = float(student_t.ppf(1.0 - tail, freedom)) * np.sqrt((freedom + 1.0) / freedom)
    share = float(norm.cdf(-factor))
    low, high = np.quantile(replicates, [share, 1.0 - share])
    return min(float(low), value), max(float(high), value)
