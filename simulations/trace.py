"""What a replay did, request by request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import BoolArray, FloatArray, IntArray, Prediction


@dataclass(frozen=True, slots=True)
class Records:
    """What a log keeps of each decision besides; all (n, K). Predictions are those made then."""

    eligible: BoolArray
    pmf: FloatArray
    quality: FloatArray
    quality_sd: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray

    @staticmethod
    def empty(count: int, arms: int) -> Records:
        """Room for ``count`` decisions."""
        numbers = [np.zeros((count, arms)) for _ in range(5)]
        return Records(np.zeros((count, arms), dtype=np.bool_), *numbers)

    def put(self, steps: slice, eligible: BoolArray, pmf: FloatArray, expected: Prediction) -> None:
        """Write decisions down."""
        self.eligible[steps], self.pmf[steps] = eligible, pmf
        self.quality[steps], self.quality_sd[steps] = expected.quality, expected.quality_sd
        self.cost_usd[steps], self.latency_s[steps] = expected.cost_usd, expected.latency_s


@dataclass(frozen=True, slots=True)
class Trace:
    """What one replay did, request by request; all (n,).

    row: which prompt. arm: chosen. reward, cost_usd: as realised. price_of_dollar: λ.
    records: the whole pmf and the predictions, where asked for.
    """

    row: IntArray
    arm: IntArray
    reward: FloatArray
    cost_usd: FloatArray
    price_of_dollar: FloatArray
    propensity: FloatArray
    records: Records | None = None
