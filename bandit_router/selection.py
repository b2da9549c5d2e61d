"""One decision's mathematics: from features to the pmf that is drawn from and logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandit_router.alarms import watch_floor
from bandit_router.basis import coordinates
from bandit_router.choice import mix
from bandit_router.config import ExplorationConfig
from bandit_router.exploration import Activity, explored, no_exploration
from bandit_router.learning import LearnedState, Problem, predict
from bandit_router.pacing import HORIZON
from bandit_router.policies.base import Beliefs, Context, Policy
from bandit_router.types import BoolArray, Exploration, FloatArray, Prediction


@dataclass(frozen=True, slots=True)
class Selection:
    """The pmf of one decision and what it was made of; arrays (K,).

    utility: predicted quality − λ·cost − μ·latency, by which fallbacks are ordered.
    """

    pmf: FloatArray
    utility: FloatArray
    prediction: Prediction
    exploration: Exploration


def select(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    features: FloatArray,
    input_tokens: float,
    eligible: BoolArray,
    config: ExplorationConfig,
    activity: Activity | None,
    z: FloatArray | None = None,
) -> Selection:
    """Beliefs, penalty, policy, exploration: everything up to the draw.

    features: (n,) float64. eligible: (K,) with at least one True. z: (d,) the request's
    coordinates, where they are known already.
    """
    if z is None:
        z = coordinates(state.basis, features)
    beliefs, prediction = predict(problem, policy, state, z, input_tokens)
    penalty = penalty_of(prediction, state.pacer.price_of_dollar, problem.value_of_second)
    context = context_of(problem, state, z, features, beliefs, penalty, prediction)
    pmf = policy.pmf(state.policy, context, eligible)
    utility = beliefs.mean - penalty
    exploration = no_exploration(pmf.size)
    if policy.adaptive:
        exploration = explored(
            config,
            pmf,
            utility,
            beliefs.sd,
            prediction.cost_usd,
            eligible,
            activity,
            dearest_usd=dearest_usd(problem),
            # Most of the time no arm has ever raised an alarm.
            watch_floor=watch_floor(state.watch, state.pacer.paid)
            if state.watch.raised_at.max() >= 0.0
            else None,
        )
    return Selection(
        pmf=mix(pmf, exploration),
        utility=utility,
        prediction=prediction,
        exploration=exploration,
    )


def recomputed_pmf(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    features: FloatArray,
    eligible: BoolArray,
    prediction: Prediction,
    *,
    price_of_dollar: float,
    price_of_second: float,
    exploration: Exploration,
) -> FloatArray:
    """The pmf that a logged decision should have had, from its snapshot and stored features.

    prediction: as logged; only its cost and latency are used, since they follow from list
    prices, which may have changed since.
    """
    z = coordinates(state.basis, features)
    beliefs = policy.beliefs(state.policy, z)
    penalty = penalty_of(prediction, price_of_dollar, price_of_second)
    context = context_of(problem, state, z, features, beliefs, penalty, prediction)
    pmf = policy.pmf(state.policy, context, eligible)
    return mix(pmf, exploration)


def context_of(
    problem: Problem,
    state: LearnedState,
    z: FloatArray,
    features: FloatArray,
    beliefs: Beliefs,
    penalty: FloatArray,
    prediction: Prediction,
) -> Context:
    """All that a policy is told of a request, from its snapshot and what is logged of it."""
    budget_usd = problem.budget_usd
    return Context(
        z=z,
        beliefs=beliefs,
        penalty=penalty,
        cost_usd=prediction.cost_usd,
        latency_s=prediction.latency_s,
        features=features,
        feature_names=problem.feature_names,
        debt_requests=-state.pacer.account_usd / budget_usd if budget_usd else 0.0,
    )


def dearest_usd(problem: Problem) -> float:
    """What a call may cost to be explored at every request: one that takes longer to pay off
    than the pacer's horizon cannot be paced."""
    return np.inf if problem.budget_usd is None else problem.budget_usd * HORIZON


def penalty_of(
    prediction: Prediction, price_of_dollar: float, price_of_second: float
) -> FloatArray:
    """(K,) what each arm's dollars and seconds cost in quality."""
    return np.asarray(
        price_of_dollar * prediction.cost_usd + price_of_second * prediction.latency_s
    )
