"""Set noise and prior scales by the data's own evidence (type-II maximum likelihood).

The marginal likelihood of a Bayesian linear regression needs nothing but the sums that the
posterior keeps, so hyper-parameters are learned without going back to the rows.
Source: Bishop 2006, section 3.5; MacKay 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack
from scipy.optimize import minimize

from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray, IntArray

# A head's own spread counts as much as that of all heads once it has so many rows.
SPREAD_ROWS = 10.0


def log_evidence(sums: Sums, prior: Prior) -> float:
    """log p(y | X, prior) of the rows behind ``sums``; forgotten rows count by their weight."""
    return evidence_and_slopes(sums, prior)[0]


def evidence_and_slopes(sums: Sums, prior: Prior) -> tuple[float, float, FloatArray]:
    """The log evidence, its derivative by the log of the noise, and (d,) those by the log of
    each weight's prior sd. Source: MacKay 1992, with the prior's mean not at zero."""
    precision = sums.gram * (1.0 / prior.noise)
    np.einsum("ii->i", precision)[:] += prior.precision
    factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1)
    if failed:
        return -np.inf, 0.0, np.zeros_like(prior.mean)
    right = prior.precision * prior.mean + sums.moment / prior.noise
    mean, _ = lapack.dpotrs(factor, right, lower=1)
    log_det = 2.0 * float(np.log(np.einsum("ii->i", factor)).sum())
    twice = (
        float(np.log(prior.precision).sum())
        - log_det
        + float(right @ mean)
        - float(prior.precision @ (prior.mean * prior.mean))
        - sums.square / prior.noise
        - sums.weight * float(np.log(2.0 * np.pi * prior.noise))
    )
    covariance, _ = lapack.dpotri(factor, lower=1)
    shrunk = prior.precision * np.einsum("ii->i", covariance)
    away = prior.precision * (mean - prior.mean) ** 2
    # Σ w (y − xᵀm)², from the sums; the noise's own share of it is what the fit leaves free.
    fitted = blas.dsymv(1.0, sums.gram, mean, lower=1)
    residual = sums.square - 2.0 * float(mean @ sums.moment) + float(mean @ fitted)
    explained = mean.size - float(shrunk.sum())
    by_noise = 0.5 * (residual / prior.noise + explained - sums.weight)
    return 0.5 * twice, by_noise, shrunk + away - 1.0


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
    """Priors for all heads: where they are centred, one scale per feature group, the noise.

    groups: (d,) group index per weight; group 0 is the bias, whose scale is ``bias_sd`` and
    whose mean is the pooled mean of y. The other weights are centred at zero, or at what all
    heads together say (what is hard for one model is mostly hard for the next), whichever the
    evidence favours; each head's own deviation is then what the scales are about. Noise and
    scales are the same for all heads in units of how far a head's own rows are spread: a
    model's answers may be much more even than another's.
    """
    seen = [sums for sums in heads if sums.weight > 0]
    weight = sum(sums.weight for sums in seen)
    if weight <= 0:
        return Priors(arms=(start,) * len(heads), unseen=start)
    # Spread within heads, not between them: arms of different quality are not noise.
    within = sum(map(_about_its_mean, seen)) / weight
    pooled = max(within, least_noise)
    search = _Search(
        seen=seen,
        spreads=[_spread(sums, pooled) for sums in seen],
        index=groups.astype(np.int64),
        bias_sd=bias_sd,
        least_noise=least_noise,
    )
    centre = np.zeros(groups.size)
    centre[0] = sum(sums.total for sums in seen) / weight
    loss, theta = search.best(centre)
    if len(seen) > 1 and groups.size > 1:
        shared = centre.copy()
        shared[1:] = _shared_weights(
            seen, [search.prior_at(theta, centre, spread) for spread in search.spreads]
        )
        shared_loss, shared_theta = search.best(shared)
        if shared_loss < loss:
            theta, centre = shared_theta, shared
    return Priors(
        arms=tuple(search.prior_at(theta, centre, _spread(sums, pooled)) for sums in heads),
        unseen=search.prior_at(theta, centre, pooled),
    )


def _about_its_mean(sums: Sums) -> float:
    """Σ w (y − ȳ)² of one head."""
    return max(sums.square - sums.total**2 / sums.weight, 0.0)


def _spread(sums: Sums, pooled: float) -> float:
    """The variance of a head's own rows, shrunk towards that of all heads."""
    if sums.weight <= 0.0:
        return pooled
    return (SPREAD_ROWS * pooled + _about_its_mean(sums)) / (SPREAD_ROWS + sums.weight)


@dataclass(frozen=True, slots=True)
class _Search:
    """Search for noise and scales in logs, held by weak hyper-priors where the data are silent:
    log-normals of sd 2 about a scale of 0.3 standard deviations of y, so that with few rows
    the context is hardly used. spreads: of each head that has seen rows."""

    seen: Sequence[Sums]
    spreads: Sequence[float]
    index: IntArray
    bias_sd: float
    least_noise: float

    def prior_at(self, theta: FloatArray, centre: FloatArray, spread: float) -> Prior:
        """The prior of a head whose rows are spread so, at log noise and log scales theta."""
        noise = max(spread * float(np.exp(theta[0])), self.least_noise)
        own = np.sqrt(spread) * 0.3 * np.exp(theta[1:])
        scales = np.concatenate(([self.bias_sd], own))
        return Prior(mean=centre, precision=1.0 / scales[self.index] ** 2, noise=noise)

    def best(self, centre: FloatArray) -> tuple[float, FloatArray]:
        """The least loss (penalised negative log evidence) at this centre, and its theta."""
        group_count = int(self.index.max())

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            total = 0.125 * float(theta @ theta)
            slope = 0.25 * theta
            for sums, spread in zip(self.seen, self.spreads, strict=True):
                prior = self.prior_at(theta, centre, spread)
                evidence, by_noise, by_scale = evidence_and_slopes(sums, prior)
                total -= evidence
                slope[0] -= by_noise
                slope[1:] -= np.bincount(self.index, by_scale, group_count + 1)[1:]
            return total, slope

        found = minimize(
            loss,
            np.concatenate(([-0.1], np.full(group_count, -1.0))),
            method="L-BFGS-B",
            jac=True,
            bounds=[(-7.0, 1.0)] + [(-6.0, 4.0)] * group_count,
            options={"maxiter": 25},
        )
        return float(found.fun), np.asarray(found.x)


def _shared_weights(seen: Sequence[Sums], priors: Sequence[Prior]) -> FloatArray:
    """(d−1,) weights that fit all heads at once, each head about its own mean and as precise
    as its noise is small.

    The first coordinate is the bias, so its row of the gram matrix holds the weighted sums of
    the others, by which rows are centred without going back to them.
    """
    size = priors[0].mean.size - 1
    gram = np.zeros((size, size))
    moment = np.zeros(size)
    precision = np.zeros(size)
    for sums, prior in zip(seen, priors, strict=True):
        centre = sums.gram[1:, 0] / sums.weight
        own = sums.gram[1:, 1:] - sums.weight * np.outer(centre, centre)
        gram += own / prior.noise
        moment += (sums.moment[1:] - centre * sums.total) / prior.noise
        precision += prior.precision[1:] / len(seen)
    gram = np.tril(gram) + np.tril(gram, -1).T
    return np.asarray(np.linalg.solve(gram + np.diag(precision), moment))
