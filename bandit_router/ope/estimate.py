"""What an evaluation says: numbers with their interval, or a refusal with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RefusalReason(StrEnum):
    """Why the log cannot carry an estimate."""

    NO_SUPPORT = "no_support"
    EFFECTIVE_SAMPLE_SIZE = "effective_sample_size"
    LARGEST_WEIGHT = "largest_weight"
    NO_BOUND = "no_bound"
    NOT_OBSERVED = "not_observed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no number, and what would help.

    message: one or two sentences with the values and the remedy. more_decisions: how many more
    decisions of the same logging would do, where more would. arm: which to explore more.
    """

    reason: RefusalReason
    message: str
    more_decisions: int | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When an estimate is refused. The defaults are where nominal intervals were seen to fail.

    least_effective_sample_size: of the weights. largest_weight: target over logged probability
    of any arm that was chosen. most_unsupported: mean target probability on arms that the log
    could not have chosen. least_accepted: decisions that ``replay`` must accept.
    """

    least_effective_sample_size: float = 100.0
    largest_weight: float = 50.0
    most_unsupported: float = 1e-6
    least_accepted: float = 200.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's word on one outcome of one target.

    outcome: ``reward``, ``cost_usd``, ``latency_s`` or ``utility``, in that unit per decision.
    value: NaN where refused. interval: (low, high) at ``level`` by ``method``; None where
    refused. standard_error: of the value, NaN where refused. n: rounds. observed: those with
    the outcome known. threshold: τ or λ of estimators that have one, as tuned.
    """

    outcome: str
    estimator: str
    method: str
    value: float
    standard_error: float
    interval: tuple[float, float] | None
    level: float
    n: int
    observed: int
    effective_sample_size: float
    largest_weight: float
    threshold: float | None = None
    refused: Refusal | None = None
