"""How long a replay with learning takes, decision by decision, and how much memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from bandit_router.config import ExplorationConfig
from bandit_router.policies import PolicyOptions, build_policy
from simulations.protocols.yardstick import bare_thompson_us
from simulations.replay import replay
from simulations.world.traffic import world_problem
from simulations.world.worlds import eight


def run_replay_speed(
    decisions: int, prompts: int, feature_count: int, budget_usd: float | None
) -> dict[str, Any]:
    """One replay of ``decisions`` requests, the prompts of a synthetic world again and again.

    Eight models; bills, latencies and rewards are learned from at once. cpu_us: of one decision
    and all that is learned from it, fits included; yardstick_us: of bare numpy Thompson sampling
    with as many coordinates, right before; peak_gb: of the process, the matrix included.
    """
    rng = np.random.default_rng(0)
    world = eight(feature_count)
    contexts = world.contexts(min(prompts, decisions), rng)
    matrix = world.matrix(contexts, rng)
    features = contexts.features.astype(np.float32)
    del contexts
    order = rng.integers(0, features.shape[0], decisions)
    yardstick_us = bare_thompson_us(feature_count + 1, len(matrix.models))
    begun, burned = time.perf_counter(), time.process_time()
    trace, state = replay(
        matrix,
        features,
        order,
        world_problem(world, budget_usd),
        build_policy("thompson", PolicyOptions()),
        ExplorationConfig(),
        rng,
    )
    cpu_s = time.process_time() - burned
    cpu_us = cpu_s / decisions * 1e6
    return {
        "decisions": decisions,
        "prompts": features.shape[0],
        "arms": len(matrix.models),
        "features": feature_count,
        "coordinates": state.basis.dimension,
        "budget_usd": budget_usd,
        "seconds": time.perf_counter() - begun,
        "cpu_s": cpu_s,
        "cpu_us": cpu_us,
        "decisions_per_cpu_s": decisions / cpu_s,
        "yardstick_us": yardstick_us,
        "ratio": cpu_us / yardstick_us,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "reward": float(trace.reward.mean()),
        "best_single": float(np.nanmean(matrix.quality, axis=0).max()),
        "cost_usd": float(np.nanmean(trace.cost_usd)),
    }
