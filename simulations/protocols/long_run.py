"""Does the learner stay sound after a million updates that forget and leave directions unseen?"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bandit_router.heads import HeadBank
from bandit_router.learning import FADE_EVERY
from bandit_router.policies import Evidence
from bandit_router.policies.thompson import Thompson
from bandit_router.posterior import from_sums
from bandit_router.types import FloatArray

# Of each hundred rewards so many are revised later, and so many taken back.
REVISED, RETRACTED = 10, 5


def run_updates(
    updates: int,
    *,
    dimension: int = 64,
    rank: int = 8,
    half_life: float = 5_000.0,
    checks: int = 20,
) -> dict[str, Any]:
    """One head, ``updates`` rewards at coordinates that span ``rank`` of ``dimension`` directions.

    Every reward fades with the half-life, some are revised and some retracted. At each check the
    posterior must be finite, symmetric, and no wider than the prior; ``away`` is how far its mean
    is, in the prior's own sds, from the posterior factorised from its sums, and in the end
    ``sums_away`` how far the sums are, relatively, from those of all live rows at once.
    """
    rng = np.random.default_rng(0)
    policy = Thompson()
    state = policy.init(1, dimension)
    latent, spanning = _spanning(dimension, rank, rng), rng.normal(size=(updates, rank - 1))
    reward = np.clip(0.5 + 0.1 * spanning[:, 0] + 0.1 * rng.normal(size=updates), 0.0, 1.0)
    step = 0.5 ** (FADE_EVERY / half_life)
    clock, worst, least = 0, 0.0, np.inf
    every = max(updates // checks, 1)
    begun = time.process_time()
    checking_s = 0.0
    for i in range(updates):
        if i - clock >= FADE_EVERY:
            state, clock = policy.fade(state, step), i
        z = _row(spanning[i], latent)
        # A row counts by its decision's age, beside the clock that weights are counted from.
        weight = step ** ((clock - i) / FADE_EVERY)
        value = float(reward[i])
        state = policy.update(state, Evidence(0, z, value, None, weight))
        if i % 100 < REVISED:
            reward[i] = 1.0 - value
            state = policy.update(state, Evidence(0, z, float(reward[i]), value, weight))
        elif i % 100 < REVISED + RETRACTED:
            state = policy.update(state, Evidence(0, z, None, value, weight))
            reward[i] = np.nan
        if (i + 1) % every == 0:
            paused = time.process_time()
            away, smallest = _sound(state, i + 1)
            worst, least = max(worst, away), min(least, smallest)
            checking_s += time.process_time() - paused
    cpu_s = time.process_time() - begun - checking_s
    return {
        "updates": updates,
        "dimension": dimension,
        "rank": rank,
        "half_life": half_life,
        "cpu_us": cpu_s / updates * 1e6,
        "away": worst,
        "least_eigenvalue": least,
        "sums_away": _sums_away(state, spanning, latent, reward, step, clock),
    }


def _spanning(dimension: int, rank: int, rng: np.random.Generator) -> FloatArray:
    return np.asarray(rng.normal(size=(rank - 1, dimension - 1)) / np.sqrt(rank))


def _row(spanning: FloatArray, latent: FloatArray) -> FloatArray:
    return np.concatenate(([1.0], spanning.dot(latent)))


def _sound(state: HeadBank, after: int) -> tuple[float, float]:
    """How far the mean is from its sums' own, and the covariance's least eigenvalue.

    Raises FloatingPointError where the posterior is not one.
    """
    arm, prior = state.arms[0], state.priors.arms[0]
    exact = from_sums(arm.sums, prior)
    eigenvalues = np.linalg.eigvalsh(arm.covariance)
    widest = 1.0 / float(prior.precision.min())
    if (
        not np.isfinite(arm.mean).all()
        or not np.array_equal(arm.covariance, arm.covariance.T)
        or not 0.0 < float(eigenvalues[0]) <= float(eigenvalues[-1]) <= widest * (1.0 + 1e-9)
    ):
        raise FloatingPointError(
            f"after {after} updates the posterior is no normal distribution: its covariance has "
            f"eigenvalues from {eigenvalues[0]:g} to {eigenvalues[-1]:g}, the prior {widest:g}"
        )
    away = np.abs(arm.mean - exact.mean) * np.sqrt(prior.precision)
    return float(away.max()), float(eigenvalues[0])


def _sums_away(
    state: HeadBank,
    spanning: FloatArray,
    latent: FloatArray,
    reward: FloatArray,
    step: float,
    clock: int,
) -> float:
    live = np.flatnonzero(np.isfinite(reward))
    weight = step ** ((clock - live) / FADE_EVERY)
    # What has faded to nothing adds nothing.
    live, weight = live[weight > 1e-18], weight[weight > 1e-18]
    z = np.column_stack([np.ones(live.size), spanning[live] @ latent])
    gram = (z * weight[:, None]).T @ z
    kept = np.tril(state.arms[0].sums.gram)
    kept += np.tril(kept, -1).T
    moment = z.T @ (weight * reward[live])
    return max(
        float(np.abs(kept - gram).max() / np.abs(gram).max()),
        float(np.abs(state.arms[0].sums.moment - moment).max() / np.abs(moment).max()),
    )
