"""Logged traffic of a synthetic world: what a router's log would have, and the truth beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from bandit_router.config import ExplorationConfig
from bandit_router.effort import Prices
from bandit_router.learning import LearnedState, Problem
from bandit_router.protocols import FeatureBlock
from bandit_router.types import BoolArray, FloatArray
from simulations.logs.schema import TYPES
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.simulate import named_policy
from simulations.trace import Trace
from simulations.world.contexts import Contexts
from simulations.world.truth import World

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
# Requests above this difficulty are labelled hard, for reports by segment.
HARD = 0.6


@dataclass(frozen=True, slots=True)
class Traffic:
    """A log and what is behind it.

    log: in the schema of ``simulations.logs``. expected_quality: (n, K) true mean rewards.
    matrix: realised outcomes, those never seen included. state: what was learned by the end.
    """

    log: pl.DataFrame
    contexts: Contexts
    expected_quality: FloatArray
    matrix: OutcomeMatrix
    trace: Trace
    problem: Problem
    state: LearnedState


def world_problem(world: World, budget_usd: float | None) -> Problem:
    """What a router would be configured with in this world; prices are learned from bills."""
    count = len(world.models)
    zeros = np.zeros(count)
    return Problem(
        arms=world.arms,
        feature_names=world.feature_names,
        feature_blocks=(FeatureBlock("x", 0, len(world.feature_names)),),
        prices=Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
        routable=np.ones(count, dtype=np.bool_),
        budget_usd=budget_usd,
        extractor_version="world-1",
    )


def simulate_traffic(
    world: World,
    count: int,
    rng: np.random.Generator,
    *,
    policy: str = "thompson",
    budget_usd: float | None = None,
    exploration: ExplorationConfig | None = None,
    feedback_rate: float = 1.0,
    feedback_bias: float = 0.0,
    feedback_delay: float = 0.0,
) -> Traffic:
    """Route ``count`` requests of the world one after the other, and log them.

    feedback_rate: share of requests that get any. feedback_bias: added to the log-odds of
    getting feedback per unit of reward; other than 0, it is not missing at random.
    feedback_delay: mean number of requests by which it comes late.
    """
    contexts = world.contexts(count, rng)
    matrix = world.matrix(contexts, rng)
    problem = world_problem(world, budget_usd)
    given = _given(matrix.quality, feedback_rate, feedback_bias, rng)
    delay = 1 + rng.exponential(feedback_delay, count).astype(np.int64)
    steps = np.arange(count)
    trace, state = replay(
        matrix,
        contexts.features,
        steps,
        problem,
        named_policy(policy, world.arms),
        exploration or ExplorationConfig(),
        rng,
        feedback_step=np.where(given, (steps + delay)[:, None], -1),
        record=True,
    )
    return Traffic(
        log=_log_frame(world, contexts, matrix, trace, given[steps, trace.arm], policy),
        contexts=contexts,
        expected_quality=world.expected_quality(contexts),
        matrix=matrix,
        trace=trace,
        problem=problem,
        state=state,
    )


def _given(quality: FloatArray, rate: float, bias: float, rng: np.random.Generator) -> BoolArray:
    """(n, K) whether a request would get feedback if that arm answered it."""
    if rate >= 1.0:
        return np.ones(quality.shape, dtype=np.bool_)
    if rate <= 0.0:
        return np.zeros(quality.shape, dtype=np.bool_)
    odds = np.log(rate / (1.0 - rate)) + bias * (quality - quality.mean())
    return np.asarray(rng.random(quality.shape) < expit(odds))


def _log_frame(
    world: World,
    contexts: Contexts,
    matrix: OutcomeMatrix,
    trace: Trace,
    given: BoolArray,
    policy: str,
) -> pl.DataFrame:
    """The trace in the log's schema; one request a second from ``BEGINNING``."""
    records = trace.records
    assert records is not None
    count = records.pmf.shape[0]
    steps = np.arange(count)
    latency_s = matrix.latency_s[steps, trace.arm]
    columns = {
        "decision_id": pl.Series([f"{i:012d}" for i in range(count)]),
        "created_at": pl.Series([BEGINNING + timedelta(seconds=i) for i in range(count)]),
        "arms": pl.Series([list(world.arms)] * count),
        "eligible": _lists(records.eligible),
        "pmf": _lists(records.pmf),
        "chosen": pl.Series([world.arms[k] for k in trace.arm]),
        "propensity": pl.Series(trace.propensity),
        "mode": pl.Series(["policy"] * count),
        "tenant": pl.Series(["world"] * count),
        "features": _lists(contexts.features.astype(np.float32)),
        "extractor_version": pl.Series(["world-1"] * count),
        "policy": pl.Series([policy] * count),
        "price_of_dollar": pl.Series(trace.price_of_dollar),
        "predicted_quality": _lists(records.quality),
        "predicted_cost_usd": _lists(records.cost_usd),
        "predicted_latency_s": _lists(records.latency_s),
        "metadata": pl.Series(
            [
                json.dumps({"task": world.topics[t], "difficulty": "hard" if d > HARD else "easy"})
                for t, d in zip(contexts.topic, contexts.difficulty, strict=True)
            ]
        ),
        "answered_by": pl.Series([world.arms[k] for k in trace.arm]),
        "status": pl.Series(["ok"] * count),
        "reward": pl.Series(np.where(given, trace.reward, np.nan)).fill_nan(None),
        "cost_usd": pl.Series(trace.cost_usd),
        "latency_s": pl.Series(latency_s),
        "input_tokens": pl.Series(contexts.input_tokens),
        "output_tokens": pl.Series(matrix.output_tokens[steps, trace.arm]),
    }
    frame = pl.DataFrame(columns)
    return frame.select(
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in TYPES.items()
    )


def _lists(rows: NDArray[Any]) -> pl.Series:
    return pl.Series(rows).arr.to_list()
