"""What a span of traffic came to: sums from the rollups, and the figures that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

# Fewer own bills or rewards than this do not correct what was predicted.
CORRECTING_ROWS = 30


@dataclass(frozen=True, slots=True)
class ModelSums:
    """Sums over a span for one model, named as the columns of ``rollup_models`` are."""

    model: str
    considered: int = 0
    eligible: int = 0
    pmf: float = 0.0
    predicted_cost_usd: float = 0.0
    predicted_quality: float = 0.0
    exploration_usd: float = 0.0
    decisions: int = 0
    escalations: int = 0
    looks: int = 0
    entropy: float = 0.0
    chosen_predicted_cost_usd: float = 0.0
    outcomes: int = 0
    fallbacks: int = 0
    failures: int = 0
    cancellations: int = 0
    look_cost_usd: float = 0.0
    answers: int = 0
    retries: int = 0
    costed: int = 0
    cost_usd: float = 0.0
    costed_predicted_usd: float = 0.0
    latency_s: float = 0.0
    first_tokens: int = 0
    first_token_s: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    rewards: int = 0
    reward_sum: float = 0.0
    low_rewards: int = 0
    rewarded_predicted: float = 0.0

    @property
    def quality(self) -> float | None:
        """Mean reward of its answers; None without any."""
        return ratio(self.reward_sum, self.rewards)

    @property
    def low_share(self) -> float | None:
        """Share of its judged answers that were bad."""
        return ratio(self.low_rewards, self.rewards)

    @property
    def cost_per_answer_usd(self) -> float | None:
        """Mean bill of the decisions that it answered."""
        return ratio(self.cost_usd, self.costed)

    @property
    def always_cost_usd(self) -> float | None:
        """What a request would have cost on average had it got all of them: as predicted for
        each, corrected by how its own bills compared with what was predicted for them."""
        expected = ratio(self.predicted_cost_usd, self.considered)
        if expected is None:
            return None
        known = self.costed >= CORRECTING_ROWS and self.costed_predicted_usd > 0.0
        return expected * (self.cost_usd / self.costed_predicted_usd if known else 1.0)

    @property
    def always_quality(self) -> float | None:
        """The quality that it would have had on all requests: as predicted for each, moved by
        the mean error on those of its answers that were judged."""
        expected = ratio(self.predicted_quality, self.considered)
        if expected is None:
            return None
        error = 0.0
        if self.rewards >= CORRECTING_ROWS:
            error = (self.reward_sum - self.rewarded_predicted) / self.rewards
        return min(1.0, max(0.0, expected + error))


SUMS = tuple(field.name for field in fields(ModelSums) if field.name != "model")


@dataclass(frozen=True, slots=True)
class SegmentSums:
    """What came of one kind of requests on one model."""

    segment: str
    model: str
    decisions: int
    answers: int
    cost_usd: float
    rewards: int
    reward_sum: float
    low_rewards: int

    @property
    def low_share(self) -> float | None:
        return ratio(self.low_rewards, self.rewards)


@dataclass(frozen=True, slots=True)
class Savings:
    """The router beside always asking the best model. baseline_usd is what that would have cost."""

    best: str
    requests: int
    actual_usd: float
    baseline_usd: float
    share: float


def ratio(part: float, whole: float) -> float | None:
    """The quotient, None where there is nothing to divide by."""
    return part / whole if whole else None


def total(models: Sequence[ModelSums], name: str = "") -> ModelSums:
    """All models together; ``considered`` and what belongs to it then count candidates."""
    added = {column: sum(getattr(m, column) for m in models) for column in SUMS}
    return ModelSums(name, **added)


def merged(parts: Sequence[ModelSums]) -> tuple[ModelSums, ...]:
    """One entry a model, in the order in which they first come."""
    by_model: dict[str, list[ModelSums]] = {}
    for part in parts:
        by_model.setdefault(part.model, []).append(part)
    return tuple(total(found, name) for name, found in by_model.items())


def best_model(models: Sequence[ModelSums]) -> ModelSums | None:
    """The model that would have had the highest quality on all requests, of those that a policy
    may choose at all."""
    known = [m for m in models if m.eligible and m.always_quality is not None]
    return max(known, key=lambda m: m.always_quality or 0.0, default=None)


def savings(models: Sequence[ModelSums]) -> Savings | None:
    """What routing saved against always-best. models: of decisions that a policy made.

    None before there are bills. Only billed requests are compared.
    """
    best, whole = best_model(models), total(models)
    if best is None or not whole.costed or not best.always_cost_usd:
        return None
    baseline_usd = best.always_cost_usd * whole.costed
    return Savings(
        best=best.model,
        requests=whole.costed,
        actual_usd=whole.cost_usd,
        baseline_usd=baseline_usd,
        share=1.0 - whole.cost_usd / baseline_usd,
    )


def quantile(entries: Mapping[int, int], share: float) -> float | None:
    """Where in a histogram a share of the entries lies below: a bin's number and how far into
    it. None without entries."""
    count = sum(entries.values())
    if count <= 0:
        return None
    below, wanted = 0, share * count
    for number, here in sorted(entries.items()):
        if here > 0 and below + here >= wanted:
            return number + (wanted - below) / here
        below += here
    return float(max(entries) + 1)


def seconds_at(place: float | None, least_s: float, bins_per_octave: int) -> float | None:
    """The seconds that a place among logarithmic bins stands for. The first bin has all that is
    shorter, too: it is taken to begin at nought."""
    if place is None:
        return None
    within_first = min(place, 1.0)
    return within_first * least_s * math.exp2(max(place, 1.0) / bins_per_octave)
