"""Set noise, scales and what heads have in common by the data's own evidence.

What is hard for one model is mostly hard for the next, but how much so differs from data to
data. So a head's weights are what all heads have in common plus a deviation of its own, both
normal about zero, and type-II maximum likelihood says how large either is, block by block. The
weights in common are integrated out: to fit them first and ask how likely the rows are around
them would count the rows twice, and find heads alike that are not. All this follows from the
sums that posteriors keep, so hyper-parameters are learned without going back to the rows.
Source: MacKay 1992; Gelman et al. 2013, chapter 15; slopes by Fisher's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray, IntArray

# A head's own spread counts as much as that of all heads once it has so many rows.
SPREAD_ROWS = 10.0
# The scale, in sds of y, about which the hyper-prior of every scale is centred.
TYPICAL_SCALE = 0.3


@dataclass(frozen=True, slots=True)
class Priors:
    """One prior per head, and that of a head of which nothing is known yet."""

    arms: tuple[Prior, ...]
    unseen: Prior


def fit_priors(
    heads: Sequence[Sums],
    groups: FloatArray,
    start: Prior,
    *,
    bias_sd: float,
    least_noise: float,
) -> Priors:
    """Priors for all heads: where they are centred, how wide they are, the noise.

    groups: (d,) group index per weight; group 0 is the bias, whose scale is ``bias_sd`` and
    whose mean is the pooled mean of y. The others are centred at what the *other* heads say of
    the weights in common, so that a head's own rows count once, and are as wide as a deviation
    and what is still unknown of those together. Noise and scales are the same for all heads in
    units of how far a head's own rows are spread: a model's answers may be much more even than
    another's.
    """
    seen = [sums for sums in heads if sums.weight > 0]
    weight = sum(sums.weight for sums in seen)
    if weight <= 0:
        return Priors(arms=(start,) * len(heads), unseen=start)
    # Spread within heads, not between them: arms of different quality are not noise.
    pooled = max(sum(map(_about_its_mean, seen)) / weight, least_noise)
    level = sum(sums.total for sums in seen) / weight
    family = Family(
        heads=tuple(standardised(sums, _spread(sums, pooled), level) for sums in seen),
        index=groups.astype(np.int64),
        bias_sd=bias_sd,
        least_noise=least_noise,
    )
    theta = _likeliest(family)
    noise, deviation, common = family.scales(theta)
    single = [one_head(family, k, noise[k], deviation) for k in range(len(seen))]

    def prior(told: Sequence[OneHead], spread: float) -> Prior:
        unknown, _, pull = _in_common(common, told)
        mean = np.concatenate(([level], np.sqrt(spread) * (unknown @ pull)))
        variance = spread * (deviation**2 + np.diagonal(unknown))
        return Prior(
            mean=mean,
            precision=1.0 / np.concatenate(([bias_sd**2], variance)),
            noise=max(spread * float(np.exp(theta[0])), least_noise),
        )

    unseen = prior(single, pooled)
    told = iter(
        prior(single[:k] + single[k + 1 :], head.spread) for k, head in enumerate(family.heads)
    )
    return Priors(
        arms=tuple(next(told) if sums.weight > 0 else unseen for sums in heads), unseen=unseen
    )


def _about_its_mean(sums: Sums) -> float:
    """Σ w (y − ȳ)² of one head."""
    return max(sums.square - sums.total**2 / sums.weight, 0.0)


def _spread(sums: Sums, pooled: float) -> float:
    """The variance of a head's own rows, shrunk towards that of all heads."""
    return (SPREAD_ROWS * pooled + _about_its_mean(sums)) / (SPREAD_ROWS + sums.weight)


@dataclass(frozen=True, slots=True)
class Head:
    """One head's rows with y measured from the level of all heads, in units of the root of
    ``spread``. gram: (d, d), both triangles. moment: (d,). square, weight: as in ``Sums``."""

    spread: float
    gram: FloatArray
    moment: FloatArray
    square: float
    weight: float


def standardised(sums: Sums, spread: float, level: float) -> Head:
    """A head's sums in those units."""
    gram = _mirrored(sums.gram)
    return Head(
        spread=spread,
        gram=gram,
        # The first coordinate is the bias: its row of the gram matrix is Σ w x.
        moment=(sums.moment - level * gram[0]) / np.sqrt(spread),
        square=max(sums.square + level * (level * sums.weight - 2.0 * sums.total), 0.0) / spread,
        weight=sums.weight,
    )


@dataclass(frozen=True, slots=True)
class Family:
    """Heads that have seen rows, and what of their priors is given.

    index: (d,) group of each weight. A theta holds the log noise in units of a head's spread,
    the log scales of deviations by group, and those of the weights in common by group; scales
    in units of ``TYPICAL_SCALE`` sds of y.
    """

    heads: tuple[Head, ...]
    index: IntArray
    bias_sd: float
    least_noise: float

    @property
    def groups(self) -> int:
        """The number of groups, the bias left out."""
        return int(self.index.max())

    def scales(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Noise variance of each head, and (d−1,) sds of deviations and of weights in common."""
        least = np.array([self.least_noise / head.spread for head in self.heads])
        scale = TYPICAL_SCALE * np.exp(theta[1:].reshape(2, self.groups))
        deviation, common = scale[:, self.index[1:] - 1]
        return np.maximum(np.exp(theta[0]), least), deviation, common

    def by_group(self, values: FloatArray) -> FloatArray:
        """(groups,) sums of (d−1,) values."""
        return np.asarray(np.bincount(self.index[1:] - 1, values, self.groups), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class OneHead:
    """One head given the weights in common, c: its deviation is N(alone − away c, covariance).

    covariance: (d, d). alone: (d,). kept: (d, d−1), what of c stays in the head's whole weights
    once its rows are seen; away is (0, I) − kept, with a row of zeros for the bias. evidence: at
    c = 0; with c it changes by pullᵀc − cᵀ precision c / 2. held: (d,) prior precisions of the
    bias and of the deviation.
    """

    evidence: float
    held: FloatArray
    covariance: FloatArray
    alone: FloatArray
    kept: FloatArray
    precision: FloatArray
    pull: FloatArray


def one_head(family: Family, k: int, noise: float, deviation: FloatArray) -> OneHead:
    """Head k at this noise and these sds of deviations, both in its own units."""
    head = family.heads[k]
    held = np.concatenate(([head.spread / family.bias_sd**2], deviation**-2.0))
    known = head.gram / noise
    np.einsum("ii->i", known)[:] += held
    covariance, log_det = _inverse(known)
    right = head.moment / noise
    alone = covariance @ right
    kept = covariance[:, 1:] * held[1:]
    twice = (
        float(np.log(held).sum())
        - log_det
        - head.square / noise
        + float(right @ alone)
        - head.weight * float(np.log(2.0 * np.pi * noise * head.spread))
    )
    return OneHead(
        evidence=0.5 * twice,
        held=held,
        covariance=covariance,
        alone=alone,
        kept=kept,
        precision=np.diag(held[1:]) - held[1:, None] * kept[1:],
        pull=held[1:] * alone[1:],
    )


def _in_common(common: FloatArray, told: Sequence[OneHead]) -> tuple[FloatArray, float, FloatArray]:
    """What the heads ``told`` of say of the weights in common, N(covariance · pull, covariance):
    covariance, log determinant of its inverse, pull. common: (d−1,) their prior sds."""
    precision = np.diag(common**-2.0)
    pull = np.zeros(common.size)
    for one in told:
        precision += one.precision
        pull += one.pull
    return *_inverse(precision), pull


def evidence_and_slopes(family: Family, theta: FloatArray) -> tuple[float, FloatArray]:
    """The log evidence of all heads' rows together, and its slopes by theta."""
    noise, deviation, common = family.scales(theta)
    single = [one_head(family, k, noise[k], deviation) for k in range(noise.size)]
    unknown, log_det, pull = _in_common(common, single)
    mean = unknown @ pull
    evidence = sum(one.evidence for one in single) + 0.5 * (
        float(pull @ mean) - log_det - 2.0 * float(np.log(common).sum())
    )
    by_noise, by_deviation = 0.0, np.zeros(common.size)
    for head, one, variance in zip(family.heads, single, noise, strict=True):
        weights = one.alone + one.kept @ mean
        away = -one.kept
        np.einsum("ii->i", away[1:])[:] += 1.0
        spread = away @ unknown
        own = one.alone - away @ mean
        moment = own**2 + np.diagonal(one.covariance) + np.einsum("ij,ij->i", spread, away)
        by_deviation += moment[1:] * one.held[1:] - 1.0
        if head.spread * variance > family.least_noise:
            residual = head.square - 2.0 * weights @ head.moment + weights @ head.gram @ weights
            free = one.held.size - one.held @ np.diagonal(one.covariance)
            # Where weights in common are unknown, so is what a head keeps of them.
            free += one.held @ np.einsum("ij,ij->i", spread, one.kept)
            by_noise += 0.5 * float(residual / variance + free - head.weight)
    by_common = (mean**2 + np.diagonal(unknown)) / common**2 - 1.0
    slopes = ([by_noise], family.by_group(by_deviation), family.by_group(by_common))
    return evidence, np.concatenate(slopes)


def _likeliest(family: Family) -> FloatArray:
    """Theta of the largest evidence under weak hyper-priors, log-normals of sd 2, which keep
    scales small until the data speak: with few rows the context is hardly used."""

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        evidence, slopes = evidence_and_slopes(family, theta)
        return 0.125 * float(theta @ theta) - evidence, 0.25 * theta - slopes

    found = minimize(
        loss,
        np.concatenate(([-0.1], np.full(2 * family.groups, -1.0))),
        method="L-BFGS-B",
        jac=True,
        bounds=[(-7.0, 1.0)] + [(-6.0, 4.0)] * (2 * family.groups),
        options={"maxiter": 25},
    )
    return np.asarray(found.x)


def _inverse(precision: FloatArray) -> tuple[FloatArray, float]:
    """The inverse, and the log determinant of what is inverted, of which the lower triangle
    counts. Raises FloatingPointError where it is not positive definite."""
    if not precision.size:
        return precision, 0.0
    factor, failed = lapack.dpotrf(precision, lower=1)
    if failed:
        # As in posterior.from_sums: a retraction can leave sums indefinite by rounding.
        mended = precision + np.diag(1e-9 * (1.0 + np.abs(np.diagonal(precision))))
        factor, failed = lapack.dpotrf(mended, lower=1)
        if failed:
            raise FloatingPointError(
                f"the precision of {precision.shape[0]} weights is not positive definite"
            )
    log_det = 2.0 * float(np.log(np.einsum("ii->i", factor)).sum())
    covariance, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    return _mirrored(covariance), log_det


def _mirrored(lower: FloatArray) -> FloatArray:
    """Both triangles of a symmetric matrix of which the lower is kept up."""
    triangle = np.tril(lower)
    return triangle + np.tril(lower, -1).T
