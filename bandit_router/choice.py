"""From a pmf to a drawn arm: mix in exploration, seed from the decision id, draw.

The model is drawn from the very vector that is logged, so the logged propensity is exact
whatever approximation made the vector.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from uuid import UUID

import numpy as np

from bandit_router.types import Exploration, FloatArray, IntArray


def mix(pmf: FloatArray, exploration: Exploration) -> FloatArray:
    """(K,) pmf with every arm raised by its floor and the forced look's weight moved to it.

    floor must sum to at most one. The result sums to one when ``pmf`` does.
    """
    floor = exploration.floor
    kept = 1.0 - math.fsum(floor.tolist())
    if exploration.look_arm < 0 and kept == 1.0:
        return pmf
    mixed = pmf * kept
    mixed += floor
    if exploration.look_arm >= 0 and exploration.look_probability > 0.0:
        mixed = (1.0 - exploration.look_probability) * mixed
        mixed[exploration.look_arm] += exploration.look_probability
    mixed /= math.fsum(mixed.tolist())
    return np.asarray(mixed)


def uniform_for(decision_id: UUID, secret: bytes, purpose: bytes = b"draw") -> float:
    """A number in [0, 1) that only the secret's holder can foretell, fixed by the decision id."""
    digest = hmac.digest(secret, purpose + decision_id.bytes, hashlib.sha256)
    # 53 bits: more would be rounded, the highest of them to 1.
    return (int.from_bytes(digest[:7], "big") >> 3) / 2.0**53


def draw(pmf: FloatArray, uniform: float) -> int:
    """Index of the arm whose slice of [0, 1) holds ``uniform``; never one of probability 0."""
    # A loop over so few numbers is quicker than two array calls.
    shares = pmf.tolist()
    target = uniform * math.fsum(shares)
    reached = 0.0
    last = 0
    for arm, share in enumerate(shares):
        if share <= 0.0:
            continue
        last = arm
        reached += share
        if reached > target:
            return arm
    return last


def mix_rows(pmf: FloatArray, floor: FloatArray) -> FloatArray:
    """(N, K) ``mix`` for many requests, none with a forced look."""
    mixed = pmf * (1.0 - floor.sum(axis=1, keepdims=True)) + floor
    mixed /= mixed.sum(axis=1, keepdims=True)
    return np.asarray(mixed)


def draw_rows(pmf: FloatArray, uniform: FloatArray) -> IntArray:
    """(N,) ``draw`` for many requests. pmf: (N, K); uniform: (N,)."""
    reached = pmf.cumsum(axis=1)
    passed = reached > (uniform * reached[:, -1])[:, None]
    return np.asarray((passed & (pmf > 0.0)).argmax(axis=1))


def one_hot(index: int, count: int) -> FloatArray:
    """(K,) all mass on one arm."""
    vector = np.zeros(count)
    vector[index] = 1.0
    return vector
