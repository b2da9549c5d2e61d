"""The learned policy by feature: what it chooses where a feature is high, and where it is low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.learning import LearnedState, Problem, predict
from bandit_router.policies import Policy
from bandit_router.selection import context_of, penalty_of
from bandit_router.types import BoolArray, FloatArray

# Compressed text and likeness to past requests have no names that would tell a reader anything.
NAMELESS = ("text", "principal", "bias", "likeness")
FEWEST_REQUESTS = 20
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Leaning:
    """Shares that the policy gives to each model where a feature is above its mean, and where it
    is not, over recent requests. shift: the total variation between the two."""

    feature: str
    requests_high: int
    requests_low: int
    high: dict[str, float]
    low: dict[str, float]
    shift: float


def leanings(
    problem: Problem, policy: Policy[Any], state: LearnedState, eligible: BoolArray
) -> tuple[Leaning, ...]:
    """The features that move the choice most, of the requests that the pacer remembers.

    eligible: (K,) the models that may be chosen.
    """
    if not eligible.any():
        return ()
    window = state.pacer.window
    if len(window) < FEWEST_REQUESTS:
        return ()
    z = np.stack([np.asarray(row, dtype=np.float64) for row in window])
    pmfs = _pmfs(problem, policy, state, z, eligible)
    found = []
    for column, name in enumerate(state.basis.names):
        if any(word in name for word in NAMELESS):
            continue
        values = z[:, column]
        high = values > values.mean()
        if min(high.sum(), (~high).sum()) < FEWEST_REQUESTS // 4:
            continue
        above, below = pmfs[high].mean(axis=0), pmfs[~high].mean(axis=0)
        found.append(
            Leaning(
                feature=name,
                requests_high=int(high.sum()),
                requests_low=int((~high).sum()),
                high=dict(zip(problem.arms, above.tolist(), strict=True)),
                low=dict(zip(problem.arms, below.tolist(), strict=True)),
                shift=float(np.abs(above - below).sum() / 2.0),
            )
        )
    return tuple(sorted(found, key=lambda leaning: -leaning.shift)[:SHOWN])


def _pmfs(
    problem: Problem, policy: Policy[Any], state: LearnedState, z: FloatArray, eligible: BoolArray
) -> FloatArray:
    """(n, K) what the policy would do now, exploration left out."""
    tokens = state.pacer.window_tokens
    nothing = np.zeros(len(problem.feature_names))
    rows = []
    for row, input_tokens in zip(z, tokens, strict=True):
        beliefs, prediction = predict(problem, policy, state, row, float(input_tokens))
        penalty = penalty_of(prediction, state.pacer.price_of_dollar, problem.value_of_second)
        context = context_of(problem, state, row, nothing, beliefs, penalty, prediction)
        rows.append(policy.pmf(state.policy, context, eligible))
    return np.stack(rows)
