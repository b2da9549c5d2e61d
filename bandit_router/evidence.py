"""Set noise and prior scales by the data's own evidence (type-II maximum likelihood).

The marginal likelihood of a Bayesian linear regression needs nothing but the sums that the
posterior keeps, so hyper-parameters are learned without going back to the rows.
Source: Bishop 2006, section 3.5; MacKay 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray, IntArray


def log_evidence(sums: Sums, prior: Prior) -> float:
    """log p(y | X, prior) of the rows behind ``sums``; forgotten rows count by their weight."""
    precision = sums.gram * (1.0 / prior.noise)
    np.einsum("ii->i", precision)[:] += prior.precision
    factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1)
    if failed:
        return -np.inf
    right = prior.precision * prior.mean + sums.moment / prior.noise
    half, _ = lapack.dtrtrs(factor, right, lower=1)
    fit = float(half @ half) - float(prior.precision @ (prior.mean * prior.mean))
    log_det = 2.0 * float(np.log(np.einsum("ii->i", factor)).sum())
    twice = (
        float(np.log(prior.precision).sum())
        - log_det
        + fit
        - sums.square / prior.noise
        - sums.weight * float(np.log(2.0 * np.pi * prior.noise))
    )
    return 0.5 * twice


def fit_prior(
    heads: Sequence[Sums],
    groups: FloatArray,
    start: Prior,
    *,
    bias_sd: float,
    least_noise: float,
) -> Prior:
    """One prior for all heads: where they are centred, one scale per feature group, one noise.

    groups: (d,) group index per weight; group 0 is the bias, whose scale is ``bias_sd`` and
    whose mean is the pooled mean of y. The other weights are centred at zero, or at what all
    heads together say (what is hard for one model is mostly hard for the next), whichever the
    evidence favours; each head's own deviation is then what the scales are about.
    """
    seen = [sums for sums in heads if sums.weight > 0]
    weight = sum(sums.weight for sums in seen)
    if weight <= 0:
        return start
    # Spread within heads, not between them: arms of different quality are not noise.
    within = sum(sums.square - sums.total**2 / sums.weight for sums in seen) / weight
    search = _Search(
        seen=seen,
        index=groups.astype(np.int64),
        spread=max(within, least_noise),
        bias_sd=bias_sd,
        least_noise=least_noise,
    )
    centre = np.zeros(groups.size)
    centre[0] = sum(sums.total for sums in seen) / weight
    loss, prior = search.best(centre)
    if len(seen) > 1 and groups.size > 1:
        shared = centre.copy()
        shared[1:] = _shared_weights(seen, prior)
        shared_loss, shared_prior = search.best(shared)
        if shared_loss < loss:
            return shared_prior
    return prior


@dataclass(frozen=True, slots=True)
class _Search:
    """Search for noise and scales in logs, held by weak hyper-priors where the data are silent:
    log-normals of sd 2 about a scale of 0.3 standard deviations of y, so that with few rows
    the context is hardly used."""

    seen: Sequence[Sums]
    index: IntArray
    spread: float
    bias_sd: float
    least_noise: float

    def best(self, centre: FloatArray) -> tuple[float, Prior]:
        """The least loss (penalised negative log evidence) at this centre, and its prior."""
        group_count = int(self.index.max())

        def prior_at(theta: FloatArray) -> Prior:
            noise = max(self.spread * float(np.exp(theta[0])), self.least_noise)
            own = np.sqrt(self.spread) * 0.3 * np.exp(theta[1:])
            scales = np.concatenate(([self.bias_sd], own))
            return Prior(mean=centre, precision=1.0 / scales[self.index] ** 2, noise=noise)

        def loss(theta: FloatArray) -> float:
            prior = prior_at(theta)
            fit = sum(log_evidence(sums, prior) for sums in self.seen)
            return -fit + 0.125 * float(theta @ theta)

        found = minimize(
            loss,
            np.concatenate(([-0.1], np.full(group_count, -1.0))),
            method="L-BFGS-B",
            bounds=[(-7.0, 1.0)] + [(-6.0, 4.0)] * group_count,
            options={"maxiter": 25},
        )
        return float(found.fun), prior_at(np.asarray(found.x))


def _shared_weights(seen: Sequence[Sums], prior: Prior) -> FloatArray:
    """(d−1,) weights that fit all heads at once, each head about its own mean.

    The first coordinate is the bias, so its row of the gram matrix holds the weighted sums of
    the others, by which rows are centred without going back to them.
    """
    size = prior.mean.size - 1
    gram = np.zeros((size, size))
    moment = np.zeros(size)
    for sums in seen:
        centre = sums.gram[1:, 0] / sums.weight
        gram += sums.gram[1:, 1:] - sums.weight * np.outer(centre, centre)
        moment += sums.moment[1:] - centre * sums.total
    gram = np.tril(gram) + np.tril(gram, -1).T
    return np.asarray(
        np.linalg.solve(gram / prior.noise + np.diag(prior.precision[1:]), moment / prior.noise)
    )
