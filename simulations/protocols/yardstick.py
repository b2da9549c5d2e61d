"""A yardstick for the machine: the least that one decision and one update can take in numpy."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bandit_router.types import FloatArray


def stream(dimension: int, count: int) -> FloatArray:
    """(count, d) coordinates with a bias."""
    z = np.random.default_rng(0).normal(size=(count, dimension))
    z[:, 0] = 1.0
    return z


def bare_thompson(dimension: int, arms: int) -> Callable[[], None]:
    """One decision and update: marginal draws and Sherman–Morrison in place, no propensities."""
    rng = np.random.default_rng(1)
    rows = stream(dimension, 512)
    means = np.zeros((arms, dimension))
    covariances = np.tile(np.eye(dimension), (arms, 1, 1))
    held = {"i": 0}

    def once() -> None:
        i = held["i"]
        held["i"] = i + 1
        z = rows[i % 512]
        spread = covariances @ z
        draws = means @ z + np.sqrt(np.maximum(spread @ z, 0.0)) * rng.standard_normal(arms)
        k = int(draws.argmax())
        gain = spread[k] / (1.0 + spread[k] @ z)
        means[k] += gain * (0.5 - means[k] @ z)
        covariances[k] -= np.outer(gain, spread[k])

    return once


def bare_thompson_us(dimension: int, arms: int, repeats: int = 200, runs: int = 50) -> float:
    """CPU microseconds of one ``bare_thompson``: the mean of ``repeats``, median over ``runs``."""
    once = bare_thompson(dimension, arms)
    taken = []
    for _ in range(runs):
        begun = time.process_time_ns()
        for _ in range(repeats):
            once()
        taken.append((time.process_time_ns() - begun) / repeats / 1e3)
    return float(np.median(taken))
