"""How long all estimators take on a log of many rounds, and how much memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from bandit_router.ope import LoggedRounds, Options, Tradeoff, evaluate, fixed, logged_rounds

# Of the target's utility: a dollar is worth 50, a second a hundredth.
TRADEOFF = Tradeoff(price_of_dollar=50.0, price_of_second=0.01)
TARGET = "fixed:model-1"


def run_speed(rounds: int, arms: int = 8, dimension: int = 64) -> dict[str, Any]:
    """Wall and CPU seconds of one evaluation with all estimators and the bootstrap, of the reward
    alone and of reward, cost, latency and their trade-off; and the peak memory of the process in
    GB, the log included."""
    log = timed_log(rounds, arms, dimension)
    told: dict[str, Any] = {"rounds": rounds, "arms": arms, "dimension": dimension}
    for name, options in (
        ("reward", Options(outcomes=("reward",))),
        ("all_outcomes", Options(tradeoff=TRADEOFF)),
    ):
        begun, burned = time.perf_counter(), time.process_time()
        found = evaluate(log, {TARGET: fixed("model-1")}, options)[TARGET]
        told[name] = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - burned,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "resamples": options.resamples,
            "dr": found.estimate().value,
        }
    return told


def timed_log(rounds: int, arms: int, dimension: int) -> LoggedRounds:
    """A log whose outcomes are all known, in memory."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rounds, dimension), dtype=np.float32)
    pmf = rng.random((rounds, arms)) + 0.2
    pmf /= pmf.sum(axis=1, keepdims=True)
    drawn = (pmf.cumsum(axis=1) < rng.random(rounds)[:, None]).sum(axis=1)
    arm = np.minimum(drawn, arms - 1)
    noise = rng.standard_normal((3, rounds))
    return logged_rounds(
        arms=[f"model-{k}" for k in range(arms)],
        arm=arm,
        pmf=pmf,
        reward=np.clip(0.5 + 0.1 * features[:, 0] + 0.05 * arm / arms + 0.1 * noise[0], 0.0, 1.0),
        cost_usd=1e-4 * (1.0 + arm) * np.exp(0.3 * noise[1] + 0.1 * features[:, 1]),
        latency_s=np.exp(0.2 * noise[2] + 0.05 * arm),
        features=features,
    )
