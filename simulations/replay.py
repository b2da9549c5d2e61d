"""Replay a full outcome matrix through the very functions that serve live requests."""

from __future__ import annotations

from typing import Any

import numpy as np

from bandit_router.config import ExplorationConfig
from bandit_router.learning import LearnedState, Problem
from bandit_router.policies.base import Policy
from bandit_router.types import BoolArray, IntArray
from simulations.coordinates_ahead import Features
from simulations.matrix import OutcomeMatrix
from simulations.posting import Posting
from simulations.replay_run import Run
from simulations.trace import Trace


def replay(
    matrix: OutcomeMatrix,
    features: Features,
    order: IntArray,
    problem: Problem,
    policy: Policy[Any],
    exploration: ExplorationConfig,
    rng: np.random.Generator,
    *,
    burn_in: int = 1,
    available: BoolArray | None = None,
    feedback_step: IntArray | None = None,
    posting: Posting | None = None,
    record: bool = False,
) -> tuple[Trace, LearnedState]:
    """Route the prompts of ``order`` one after the other, learning from each outcome at once.

    Every prompt is routed before its outcome is seen, and only the chosen arm's outcome is
    revealed. features: (N, n), of either precision. burn_in: forced looks at an arm that was
    never tried.
    available: (n, K) which arms the operator offers at each step, by default all: an arm that is
    not offered can neither be chosen nor be reckoned with by the pacer.
    feedback_step: (n, K) before which step an arm's reward on each request would become known,
    −1 for never; by default the next. Bills and latencies are always known at once. posting:
    what is then said of it and by whom, where that is not the plain truth. record: keep whole
    pmfs.

    From 10,000 decisions on requests are routed a few at a time on what was learned
    before the first of them, never more than a thousandth of those before: a hundred times as
    many decisions then take ten times as long.
    """
    run = Run(
        matrix=matrix,
        features=features,
        rows=order,
        problem=problem,
        policy=policy,
        exploration=exploration,
        rng=rng,
        burn_in=burn_in,
        available=available,
        feedback_step=feedback_step,
        posting=posting,
        record=record,
    )
    step = 0
    while step < order.size:
        run.hear_until(step)
        count = run.at_once(step)
        if count > 1:
            run.route_many(slice(step, step + count))
        else:
            run.route(step)
        step += count
        run.refit_when_grown(step)
    return run.trace(), run.state
