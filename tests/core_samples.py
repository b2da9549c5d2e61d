"""A small learning problem, rows for it, and policies: for tests of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.effort import Prices
from bandit_router.learning import LearnedState, Problem, fold, init_state
from bandit_router.policies import POLICIES, Policy, PolicyOptions, build_policy
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FloatArray, Observation

ARMS = ("small", "large", "local")


def make_problem(arms: Sequence[str] = ARMS, feature_count: int = 4, **changes: Any) -> Problem:
    """Models without list prices, whose dollars come with their outcomes."""
    zeros = np.zeros(len(arms))
    values: dict[str, Any] = {
        "arms": tuple(arms),
        "feature_names": tuple(f"x{i}" for i in range(feature_count)),
        "feature_blocks": (FeatureBlock("surface", 0, feature_count),),
        "prices": Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
        "routable": np.ones(len(arms), dtype=np.bool_),
    }
    return Problem(**{**values, **changes})


def make_policy(name: str = "thompson") -> Policy[Any]:
    """Any registered policy; ``fixed`` has its first arm."""
    return build_policy(name, PolicyOptions(fixed_arm=0))


def policy_names() -> list[str]:
    """Every registered policy, in a stable order."""
    return sorted(POLICIES)


def make_row(seq: int, arm: str, features: FloatArray, **changes: Any) -> Observation:
    """One row of the learner's input."""
    values: dict[str, Any] = {
        "decision_seq": seq,
        "decision_id": UUID(int=seq),
        "arm": arm,
        "features": features,
        "input_tokens": 20,
    }
    return Observation(**{**values, **changes})


def make_rows(problem: Problem, count: int, seed: int = 0) -> list[Observation]:
    """Outcome and reward of ``count`` decisions whose arms take turns."""
    rng = np.random.default_rng(seed)
    size = len(problem.feature_names)
    truth = rng.normal(0.0, 0.05, (len(problem.arms), size))
    rows = []
    for seq in range(count):
        k = seq % len(problem.arms)
        x = rng.normal(size=size)
        reward = float(np.clip(0.5 + 0.1 * k + truth[k] @ x + rng.normal(0, 0.05), 0, 1))
        rows.append(
            make_row(
                seq,
                problem.arms[k],
                x,
                reward=reward,
                cost_usd=float(1e-4 * 3**k * np.exp(rng.normal(0, 0.3))),
                latency_s=float(0.5 + k),
                output_tokens=50,
            )
        )
    return rows


def folded(
    problem: Problem,
    policy: Policy[Any],
    rows: Sequence[Observation],
    state: LearnedState | None = None,
) -> LearnedState:
    """The state after the rows, from nothing or from ``state``."""
    state = init_state(problem, policy) if state is None else state
    for row in rows:
        state = fold(problem, policy, state, row)
    return state
