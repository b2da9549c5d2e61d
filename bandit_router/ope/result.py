"""What an evaluation says of one target, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bandit_router.errors import DataError
from bandit_router.ope.bootstrap import percentile_interval
from bandit_router.ope.diagnostics import Diagnostics
from bandit_router.ope.estimate import Estimate, Refusal
from bandit_router.ope.feedback import FeedbackReport, Sensitivity
from bandit_router.types import FloatArray


@dataclass(frozen=True, slots=True)
class SegmentEstimate:
    """DR's word on one outcome within one segment; NaN and None where refused."""

    segment: str
    outcome: str
    n: int
    value: float
    standard_error: float
    interval: tuple[float, float] | None
    effective_sample_size: float
    refused: Refusal | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that the log says of one target.

    estimates: one per outcome, estimator and interval method. refused: why there is none at
    all, or None. replicates: (B,) bootstrap values by (outcome, estimator), for differences.
    """

    target: str
    n: int
    estimates: tuple[Estimate, ...]
    segments: tuple[SegmentEstimate, ...]
    diagnostics: Diagnostics
    feedback: FeedbackReport
    sensitivity: Sensitivity | None
    refused: Refusal | None
    replicates: Mapping[tuple[str, str], FloatArray] = field(repr=False)

    def estimate(
        self, outcome: str = "reward", estimator: str = "dr", method: str = "bootstrap"
    ) -> Estimate:
        """One of ``estimates``. Raises DataError with what there is."""
        for found in self.estimates:
            if (found.outcome, found.estimator, found.method) == (outcome, estimator, method):
                return found
        there = ", ".join(f"{e.outcome}/{e.estimator}/{e.method}" for e in self.estimates)
        raise DataError(f"no estimate {outcome}/{estimator}/{method}; there are {there}")


def difference(
    one: Evaluation,
    other: Evaluation,
    outcome: str = "reward",
    estimator: str = "dr",
    level: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """How much more ``one`` has than ``other``, and its interval, from the same resamples.

    Sharing rounds makes the difference far surer than either value. Both must come from one
    call of ``evaluate``. The interval is widened as theirs are: by the smaller effective sample
    size, and by the more that heavy weights have not come yet. Raises DataError where either was
    refused.
    """
    found = [evaluation.estimate(outcome, estimator) for evaluation in (one, other)]
    for evaluation, estimate in zip((one, other), found, strict=True):
        if estimate.refused is not None:
            raise DataError(f"{evaluation.target} was refused: {estimate.refused.message}")
    value = found[0].value - found[1].value
    apart = one.replicates[outcome, estimator] - other.replicates[outcome, estimator]
    size = min(estimate.effective_sample_size for estimate in found)
    low, high = percentile_interval(apart[np.isfinite(apart)], value, level, size)
    spread = max(each.diagnostics.spread_factor for each in (one, other))
    return value, (value - spread * (value - low), value + spread * (high - value))
