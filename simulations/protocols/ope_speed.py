"""How long all estimators take on a log of many rounds, and how much memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from bandit_router.ope import Options, evaluate, fixed, logged_rounds


def run_speed(rounds: int, arms: int = 8, dimension: int = 64) -> dict[str, Any]:
    """Seconds of one evaluation with all estimators and the bootstrap, and the peak memory of
    the process in GB, the log included."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rounds, dimension), dtype=np.float32)
    pmf = rng.random((rounds, arms)) + 0.2
    pmf /= pmf.sum(axis=1, keepdims=True)
    drawn = (pmf.cumsum(axis=1) < rng.random(rounds)[:, None]).sum(axis=1)
    arm = np.minimum(drawn, arms - 1)
    reward = np.clip(
        0.5 + 0.1 * features[:, 0] + 0.05 * arm / arms + 0.1 * rng.standard_normal(rounds), 0, 1
    )
    log = logged_rounds(
        arms=[f"model-{k}" for k in range(arms)], arm=arm, pmf=pmf, reward=reward, features=features
    )
    begun = time.perf_counter()
    options = Options(outcomes=("reward",))
    found = evaluate(log, {"fixed:model-1": fixed("model-1")}, options)["fixed:model-1"]
    return {
        "rounds": rounds,
        "arms": arms,
        "dimension": dimension,
        "resamples": options.resamples,
        "seconds": time.perf_counter() - begun,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "dr": found.estimate().value,
    }
