"""Worlds in which feedback is late, rare, coarse, one-sided or false; bills are always seen.

Each draws, for every request of a replay, what would be posted of each model's answer, when it
comes and from whom. The prompts pass by again and again until so many requests are routed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit_router.config import FeedbackConfig
from bandit_router.types import FloatArray, IntArray
from simulations.posting import Posting

NEVER = -1
# Users who are content mostly say nothing: one in so many of them does.
CONTENT_TOLD = 0.1
UNHAPPY_TOLD = 1.0
POISONED_SHARE = 0.05
HONEST, POISON = 0, 1


@dataclass(frozen=True, slots=True)
class Signals:
    """step: (n, K) before which request each answer's signal is known; see ``replay``."""

    step: IntArray
    posting: Posting


def at_once(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """Every answer's quality, known before the next request."""
    return _signals(truth, np.zeros(truth.shape, dtype=np.int64))


def delayed(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """From 1 to 10,000 requests late, each order of magnitude as likely as the next."""
    late = np.exp(rng.uniform(0.0, np.log(10_000.0), truth.shape[0])).astype(np.int64)
    return _signals(truth, np.broadcast_to(late[:, None], truth.shape))


def sparse(truth: FloatArray, rng: np.random.Generator, share: float = 0.01) -> Signals:
    """Of one answer in a hundred."""
    return _silent(truth, 1.0 - share, rng)


def biased(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """Thumbs, and mostly only those of the unhappy: all of them, but one in ten of the content."""
    thumbs = _thumbs(truth, rng)
    chance = np.where(thumbs > 0.5, CONTENT_TOLD, UNHAPPY_TOLD)
    told = rng.random((truth.shape[0], 1)) < chance
    return _signals(thumbs, np.where(told, 0, NEVER))


def binary(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """A thumb for every answer, up with the probability of its quality."""
    return _signals(_thumbs(truth, rng), np.zeros(truth.shape, dtype=np.int64))


def scarce(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """A thumb for one answer in a hundred, a thousand requests late."""
    late = np.where(rng.random(truth.shape[0]) < 0.01, 1_000, NEVER)
    return _signals(_thumbs(truth, rng), np.broadcast_to(late[:, None], truth.shape))


def poisoned(
    truth: FloatArray,
    rng: np.random.Generator,
    *,
    damned: int,
    praised: int,
    trust: FeedbackConfig | None,
    start: int = 0,
) -> Signals:
    """All at once and true, but for one key that has 5 % of the requests: it posts 0 for one
    model and 1 for another, and nothing of the rest. It starts at request ``start``."""
    bad = np.asarray(rng.random(truth.shape[0]) < POISONED_SHARE)
    source = np.where(bad & (np.arange(truth.shape[0]) >= start), POISON, HONEST)
    poison = source == POISON
    value, late = truth.copy(), np.zeros(truth.shape, dtype=np.int64)
    late[poison] = NEVER
    late[np.ix_(poison, [damned, praised])] = 0
    value[poison, damned] = 0.0
    value[poison, praised] = 1.0
    return Signals(_steps(late), Posting(value, source, trust))


def silenced(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """All at once and true, without the requests that a poisoned key would have: of those nothing
    is said."""
    return _silent(truth, POISONED_SHARE, rng)


def silenced_elsewhere(truth: FloatArray, rng: np.random.Generator) -> Signals:
    """The same, but another twentieth of the requests is silent."""
    rng.random(truth.shape[0])
    return silenced(truth, rng)


FEEDBACK: dict[str, Callable[[FloatArray, np.random.Generator], Signals]] = {
    "stationary": at_once,
    "delayed": delayed,
    "sparse": sparse,
    "biased": biased,
    "binary": binary,
    "scarce": scarce,
}
# What a poisoned key is held against; no scenarios by themselves.
WITHOUT_POISON: dict[str, Callable[[FloatArray, np.random.Generator], Signals]] = {
    "silenced": silenced,
    "silenced_elsewhere": silenced_elsewhere,
}


def _signals(value: FloatArray, late: IntArray) -> Signals:
    return Signals(_steps(late), Posting(value, np.zeros(value.shape[0], dtype=np.int64)))


def _silent(truth: FloatArray, share: float, rng: np.random.Generator) -> Signals:
    """All at once and true, but for a share of the requests, of which nothing is said."""
    late = np.where(rng.random(truth.shape[0]) < share, NEVER, 0)
    return _signals(truth, np.broadcast_to(late[:, None], truth.shape))


def _steps(late: IntArray) -> IntArray:
    """(n, K) from requests late; 0 is known before the next request."""
    step = np.arange(late.shape[0])[:, None] + 1 + late
    return np.where(late == NEVER, NEVER, step)


def _thumbs(truth: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.where(rng.random(truth.shape) < truth, 1.0, 0.0)
