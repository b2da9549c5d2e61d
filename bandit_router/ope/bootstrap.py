"""The bootstrap by Poisson counts: each round is drawn Poisson(1) times, block by block.

Counts of different rounds are independent, so a block needs no other, and memory is bounded by
one block. Source: Chamandy et al. 2012; Hanley & MacGibbon 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, pdtr, stdtrit

from bandit_router.types import FloatArray

# Poisson(1) by inverse cdf at 2¹⁶ points: mean and variance are right to 1e-4.
_POINTS = 2**16
# Rounds whose counts are held at a time.
_SLICE = 4096
# Of the log's standard error: no resample is taken to know its value better than this.
_LEAST_ERROR = 0.25


def count_table() -> FloatArray:
    """(65536,) Poisson(1) counts, each as often as it is likely."""
    cdf = pdtr(np.arange(16.0), 1.0)
    return np.searchsorted(cdf, (np.arange(_POINTS) + 0.5) / _POINTS).astype(np.float64)


@dataclass
class Resamples:
    """Sums of R rows over B resamples, filled block by block. sums: (B, R). counts: (B,) rounds."""

    seed: int
    resamples: int
    row_count: int

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.resamples, self.row_count))
        self.counts = np.zeros(self.resamples)
        self._table = count_table()

    def add(self, index: int, rows: FloatArray) -> None:
        """Count one block. index: of the block, from which its counts follow. rows: (R, m)."""
        rng = np.random.default_rng([self.seed, index])
        for start in range(0, rows.shape[1], _SLICE):
            part = rows[:, start : start + _SLICE]
            drawn = rng.integers(0, _POINTS, (self.resamples, part.shape[1]), dtype=np.uint16)
            counts = self._table[drawn]
            self.sums += counts @ part.T
            self.counts += counts.sum(axis=1)


def studentised_interval(
    replicates: FloatArray,
    errors: FloatArray,
    value: float,
    error: float,
    level: float,
    effective_sample_size: float,
) -> tuple[float, float]:
    """The bootstrap-t interval: how far resampled values lie off, in their own standard errors.

    replicates, errors: (B,) values and standard errors of the resamples; value, error: of the
    log. Where most answers are good and a few bad ones weigh much, a log that lacks the bad ones
    has too high a value *and* too small a spread; percentiles of its resamples miss the truth on
    that side, and this does not. The tails are those of Student's t as in
    ``percentile_interval``. Source: Hall 1988, "Theoretical comparison of bootstrap confidence
    intervals"; Efron & Tibshirani 1993, section 12.5.
    """
    share = _tail(level, effective_sample_size)
    off = replicates - value
    # A resample without any of the rare rounds that make the spread has next to none itself.
    own = np.maximum(errors, _LEAST_ERROR * error)
    known = np.isfinite(off) & np.isfinite(own) & (own > 0.0)
    if not known.any():
        return value, value
    # k of B draws stand for k / (B + 1) of all: few resamples do not make the tails too short.
    low, high = np.quantile(off[known] / own[known], [share, 1.0 - share], method="weibull")
    return value - error * max(float(high), 0.0), value - error * min(float(low), 0.0)


def percentile_interval(
    replicates: FloatArray, value: float, level: float, effective_sample_size: float
) -> tuple[float, float]:
    """The interval that holds ``level`` of the replicates, widened for few rounds.

    replicates: (B,). A plain percentile interval is as narrow as a normal one with the sample's
    variance over n; the factor is that of Student's t with the effective sample size.
    Source: Hesterberg 2015, expanded percentiles.
    """
    share = _tail(level, effective_sample_size)
    low, high = np.quantile(replicates, [share, 1.0 - share])
    return min(float(low), value), max(float(high), value)


def _tail(level: float, effective_sample_size: float) -> float:
    """The share of replicates beyond either end."""
    freedom = max(effective_sample_size - 1.0, 1.0)
    factor = float(stdtrit(freedom, 0.5 * (1.0 + level))) * np.sqrt((freedom + 1.0) / freedom)
    return float(ndtr(-factor))
