"""A bank of linear heads, one per arm, under priors that are fitted together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from bandit_router.hierarchy import Priors, fit_priors
from bandit_router.posterior import (
    Posterior,
    Prior,
    Sums,
    from_sums,
    with_revision,
    with_row,
    with_rows,
    without_row,
)
from bandit_router.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class HeadBank:
    """K posteriors, the priors they are under and, for speed, their means stacked as (K, d)."""

    priors: Priors
    arms: tuple[Posterior, ...]
    means: FloatArray


def bank(priors: Priors, sums: Sequence[Sums]) -> HeadBank:
    """The bank whose heads have seen ``sums``."""
    arms = tuple(from_sums(*pair) for pair in zip(sums, priors.arms, strict=True))
    return HeadBank(priors=priors, arms=arms, means=np.stack([arm.mean for arm in arms]))


def empty_bank(prior: Prior, arm_count: int) -> HeadBank:
    """A bank that has seen nothing."""
    priors = Priors(arms=(prior,) * arm_count, unseen=prior)
    return bank(priors, [Sums.empty(prior.mean.size)] * arm_count)


def sums_by_arm(
    z: FloatArray, arm: IntArray, value: FloatArray, weight: FloatArray, arm_count: int
) -> list[Sums]:
    """One arm's rows after the other's. z: (N, d); arm, value, weight: (N,)."""
    return [Sums.of(z[arm == k], value[arm == k], weight[arm == k]) for k in range(arm_count)]


def refitted(
    sums: Sequence[Sums], groups: FloatArray, start: Prior, *, bias_sd: float, least_noise: float
) -> HeadBank:
    """The bank under the priors that the sums' own evidence favours."""
    priors = fit_priors(sums, groups, start, bias_sd=bias_sd, least_noise=least_noise)
    return bank(priors, sums)


def variances(heads: HeadBank, z: FloatArray) -> FloatArray:
    """(K,) variance of zᵀθ_k, noise left out."""
    spread = [blas.ddot(z, blas.dgemv(1.0, arm.covariance, z)) for arm in heads.arms]
    # Rounding can leave a zero a little below zero.
    return np.maximum(spread, 0.0)


def sds_and_draws(heads: HeadBank, z: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
    """(K,) sd of zᵀθ_k, and (K,) that of its draw when of all weights but the first only
    ``share`` of the sd is drawn: with s = share · z + (1 − share) · e₀, √(sᵀΣs)."""
    own, crossed, level = share * share, 2.0 * share * (1.0 - share), (1.0 - share) ** 2
    full, drawn = [], []
    # On so few numbers Python's own arithmetic is quicker than array calls.
    for arm in heads.arms:
        covariance = arm.covariance
        spread = blas.dgemv(1.0, covariance, z)
        variance = blas.ddot(z, spread)
        draw = own * variance + crossed * spread.item(0) + level * covariance.item(0)
        # Rounding can leave a zero a little below zero.
        full.append(math.sqrt(variance) if variance > 0.0 else 0.0)
        drawn.append(math.sqrt(draw) if draw > 0.0 else 0.0)
    return np.array(full), np.array(drawn)


def rows_of_sds_and_draws(
    heads: HeadBank, z: FloatArray, share: float
) -> tuple[FloatArray, FloatArray]:
    """The same for many requests. z: (N, d), results (N, K)."""
    own, crossed, level = share * share, 2.0 * share * (1.0 - share), (1.0 - share) ** 2
    full, drawn = (np.empty((z.shape[0], len(heads.arms))) for _ in range(2))
    for k, arm in enumerate(heads.arms):
        spread = z @ arm.covariance
        variance = np.einsum("nd,nd->n", spread, z)
        full[:, k] = variance
        drawn[:, k] = own * variance + crossed * spread[:, 0] + level * arm.covariance[0, 0]
    return np.sqrt(np.maximum(full, 0.0)), np.sqrt(np.maximum(drawn, 0.0))


def predicted(heads: HeadBank, z: FloatArray, arm: IntArray) -> tuple[FloatArray, FloatArray]:
    """(N,) mean and sd of zᵀθ of each row's own arm. z: (N, d), arm: (N,)."""
    mean, variance = np.empty(arm.size), np.empty(arm.size)
    for k in set(arm.tolist()):
        own = arm == k
        rows = z[own]
        mean[own] = rows @ heads.means[k]
        variance[own] = np.einsum("nd,nd->n", rows @ heads.arms[k].covariance, rows)
    return mean, np.sqrt(np.maximum(variance, 0.0))


def with_new_rows(
    heads: HeadBank, z: FloatArray, arm: IntArray, value: FloatArray, weight: FloatArray
) -> HeadBank:
    """The bank after many rows of weight > 0 arrive. z: (N, d); arm, value, weight: (N,)."""
    arms, means = list(heads.arms), heads.means.copy()
    for k in set(arm.tolist()):
        own = arm == k
        arms[k] = with_rows(arms[k], heads.priors.arms[k], z[own], value[own], weight[own])
        means[k] = arms[k].mean
    return HeadBank(heads.priors, tuple(arms), means)


def changed(
    heads: HeadBank,
    arm: int,
    z: FloatArray,
    *,
    new: float | None,
    old: float | None,
    weight: float,
    old_weight: float | None = None,
) -> HeadBank:
    """The bank after one row of one arm arrives (old None), is revised, or is taken out
    (new None). Only that arm's posterior is touched. weight: of ``new``; old_weight: of
    ``old``, where it differs."""
    before, prior = heads.arms[arm], heads.priors.arms[arm]
    if old is None and new is None:
        return heads
    if old is None and new is not None:
        after = with_row(before, prior, z, new, weight)
    else:
        assert old is not None
        held = weight if old_weight is None else old_weight
        if new is None:
            after = without_row(before, prior, z, old, held)
        elif held == weight:
            after = with_revision(before, prior, z, old, new, weight)
        else:
            sums = before.sums.plus(z, old, -held).plus(z, new, weight)
            after = from_sums(sums, prior)
    means = heads.means.copy()
    means[arm] = after.mean
    arms = list(heads.arms)
    arms[arm] = after
    return HeadBank(heads.priors, tuple(arms), means)


def carried(heads: HeadBank, origin: IntArray, share: FloatArray) -> HeadBank:
    """The bank for another list of arms.

    origin: (K',) which head each new arm takes over, -1 for none. share: (K',) by how much that
    head's rows count from now on; where it is 1 the head stays as it is, to the bit.
    """
    unseen = heads.priors.unseen
    fresh = from_sums(Sums.empty(unseen.mean.size), unseen)
    arms, priors = [], []
    for k, factor in zip(origin.tolist(), share.tolist(), strict=True):
        priors.append(unseen if k < 0 else heads.priors.arms[k])
        if k < 0:
            arms.append(fresh)
        elif factor == 1.0:
            arms.append(heads.arms[k])
        else:
            arms.append(from_sums(heads.arms[k].sums.scaled(factor), priors[-1]))
    return HeadBank(
        priors=Priors(arms=tuple(priors), unseen=unseen),
        arms=tuple(arms),
        means=np.stack([arm.mean for arm in arms]),
    )


def faded(heads: HeadBank, factor: float) -> HeadBank:
    """The bank after every row's weight shrinks by ``factor``, towards the prior."""
    return bank(heads.priors, [arm.sums.scaled(factor) for arm in heads.arms])
