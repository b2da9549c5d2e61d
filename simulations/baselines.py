"""What one could do without learning: the yardsticks beside every replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router.types import FloatArray
from simulations.matrix import OutcomeMatrix


@dataclass(frozen=True, slots=True)
class Baseline:
    """Mean reward and mean dollars per request of one yardstick."""

    reward: float
    cost_usd: float


def fixed(matrix: OutcomeMatrix) -> tuple[Baseline, ...]:
    """Each model used for every prompt it has an outcome for, in the matrix's order."""
    return tuple(
        Baseline(mean_of_known(matrix.quality[:, k]), mean_of_known(matrix.cost_usd[:, k]))
        for k in range(len(matrix.models))
    )


def best_single(matrix: OutcomeMatrix, budget_usd: float | None) -> Baseline:
    """The best fixed model whose mean cost is within budget; the cheapest where none is."""
    models = fixed(matrix)
    affordable = [m for m in models if budget_usd is None or not m.cost_usd > budget_usd]
    if not affordable:
        return min(models, key=lambda m: m.cost_usd)
    return max(affordable, key=lambda m: m.reward)


def static_mix(matrix: OutcomeMatrix, spend_usd: float | None) -> Baseline:
    """The best random mix of fixed models that spends ``spend_usd`` a request.

    That is the upper concave hull of the models' (cost, reward) points; above the dearest
    useful model it stays flat, below the cheapest it is the cheapest.
    """
    return mix_of(fixed(matrix), spend_usd)


def mix_of(models: tuple[Baseline, ...], spend_usd: float | None) -> Baseline:
    """See ``static_mix``. Every mix of two models is tried: K is small."""
    best = best_of = min(models, key=lambda m: (m.cost_usd, -m.reward))
    if spend_usd is None or not np.isfinite([spend_usd, *(m.cost_usd for m in models)]).all():
        return max(models, key=lambda m: m.reward)
    for low in models:
        for high in models:
            if low.cost_usd > spend_usd:
                continue
            if high.cost_usd <= spend_usd:
                mixed = high
            else:
                share = (spend_usd - low.cost_usd) / (high.cost_usd - low.cost_usd)
                mixed = Baseline(
                    low.reward + share * (high.reward - low.reward),
                    low.cost_usd + share * (high.cost_usd - low.cost_usd),
                )
            if mixed.reward > best_of.reward:
                best_of = mixed
    return best_of if best_of.reward > best.reward else best


def uniform(matrix: OutcomeMatrix) -> Baseline:
    """Any known model, all alike, for each prompt."""
    return Baseline(
        mean_of_known(np.array([mean_of_known(row) for row in matrix.quality])),
        mean_of_known(np.array([mean_of_known(row) for row in matrix.cost_usd])),
    )


def oracle(matrix: OutcomeMatrix, budget_usd: float | None) -> Baseline:
    """The best that anyone could reach who knew every outcome, at a mean cost within budget.

    Solved as the fluid problem with the true outcomes: argmax quality − λ·cost, with the
    last prompt split so that the budget is met exactly.
    """
    quality = np.where(matrix.known, matrix.quality, -np.inf)
    cost = np.where(matrix.known, np.nan_to_num(matrix.cost_usd), 0.0)
    rows = np.arange(quality.shape[0])

    def at(price: float) -> Baseline:
        # Among equally good models the cheapest.
        chosen = (quality - (price + 1e-9) * cost).argmax(axis=1)
        return Baseline(
            float(quality[rows, chosen].mean()), mean_of_known(matrix.cost_usd[rows, chosen])
        )

    free = at(0.0)
    if budget_usd is None or free.cost_usd <= budget_usd:
        return free
    low, high = 1e-6, 1e9
    if at(high).cost_usd >= budget_usd:
        return at(high)
    for _ in range(80):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if at(middle).cost_usd > budget_usd else (low, middle)
    dear, cheap = at(low), at(high)
    if dear.cost_usd <= cheap.cost_usd:
        return cheap
    share = (budget_usd - cheap.cost_usd) / (dear.cost_usd - cheap.cost_usd)
    return Baseline(cheap.reward + share * (dear.reward - cheap.reward), budget_usd)


def mean_of_known(values: FloatArray) -> float:
    """Mean of the finite values; NaN where there are none."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else float("nan")
