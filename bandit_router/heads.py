"""A bank of linear heads, one per arm, under one shared prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from bandit_router.evidence import fit_prior
from bandit_router.posterior import (
    Posterior,
    Prior,
    Sums,
    from_sums,
    with_revision,
    with_row,
    without_row,
)
from bandit_router.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class HeadBank:
    """K posteriors and, for speed, their means stacked as (K, d)."""

    prior: Prior
    arms: tuple[Posterior, ...]
    means: FloatArray


def bank(prior: Prior, sums: Sequence[Sums]) -> HeadBank:
    """The bank whose heads have seen ``sums``."""
    arms = tuple(from_sums(each, prior) for each in sums)
    return HeadBank(prior=prior, arms=arms, means=np.stack([arm.mean for arm in arms]))


def empty_bank(prior: Prior, arm_count: int) -> HeadBank:
    """A bank that has seen nothing."""
    return bank(prior, [Sums.empty(prior.mean.size)] * arm_count)


def sums_by_arm(
    z: FloatArray, arm: IntArray, value: FloatArray, weight: FloatArray, arm_count: int
) -> list[Sums]:
    """One arm's rows after the other's. z: (N, d); arm, value, weight: (N,)."""
    return [Sums.of(z[arm == k], value[arm == k], weight[arm == k]) for k in range(arm_count)]


def refitted(
    sums: Sequence[Sums], groups: FloatArray, start: Prior, *, bias_sd: float, least_noise: float
) -> HeadBank:
    """The bank under the prior that the sums' own evidence favours."""
    prior = fit_prior(sums, groups, start, bias_sd=bias_sd, least_noise=least_noise)
    return bank(prior, sums)


def variances(heads: HeadBank, z: FloatArray) -> FloatArray:
    """(K,) variance of zᵀθ_k, noise left out."""
    spread = [blas.ddot(z, blas.dgemv(1.0, arm.covariance, z)) for arm in heads.arms]
    # Rounding can leave a zero a little below zero.
    return np.maximum(spread, 0.0)


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
    before = heads.arms[arm]
    if old is None and new is None:
        return heads
    if old is None and new is not None:
        after = with_row(before, heads.prior, z, new, weight)
    else:
        assert old is not None
        held = weight if old_weight is None else old_weight
        if new is None:
            after = without_row(before, heads.prior, z, old, held)
        elif held == weight:
            after = with_revision(before, heads.prior, z, old, new, weight)
        else:
            sums = before.sums.plus(z, old, -held).plus(z, new, weight)
            after = from_sums(sums, heads.prior)
    means = heads.means.copy()
    means[arm] = after.mean
    return HeadBank(
        prior=heads.prior, arms=(*heads.arms[:arm], after, *heads.arms[arm + 1 :]), means=means
    )


def carried(heads: HeadBank, origin: IntArray, share: FloatArray) -> HeadBank:
    """The bank for another list of arms, under the same prior.

    origin: (K',) which head each new arm takes over, -1 for none. share: (K',) by how much that
    head's rows count from now on; where it is 1 the head stays as it is, to the bit.
    """
    fresh = from_sums(Sums.empty(heads.prior.mean.size), heads.prior)
    arms = []
    for k, factor in zip(origin.tolist(), share.tolist(), strict=True):
        if k < 0:
            arms.append(fresh)
        elif factor == 1.0:
            arms.append(heads.arms[k])
        else:
            arms.append(from_sums(heads.arms[k].sums.scaled(factor), heads.prior))
    means = np.stack([arm.mean for arm in arms])
    return HeadBank(prior=heads.prior, arms=tuple(arms), means=means)


def faded(heads: HeadBank, factor: float) -> HeadBank:
    """The bank after every row's weight shrinks by ``factor``, towards the prior."""
    return bank(heads.prior, [arm.sums.scaled(factor) for arm in heads.arms])
