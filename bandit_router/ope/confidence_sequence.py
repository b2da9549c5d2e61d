"""Bounds that hold under adaptive logging: a confidence sequence, and its fixed-n relative.

Both are empirical Bernstein bounds on the mean of importance-weighted outcomes that use no
upper bound on the weights: what they need is that a term lies above −1 or so of its predicted
mean, which non-negative outcomes give. The upper bound is the lower bound for one minus the
outcome. A control variate from the past alone (the forward model, cut so that no term falls
below −k) makes them doubly robust; the betting runs for several k at once and its capital is
their average, so k need not be known beforehand.
Source: Waudby-Smith et al. 2022 (arXiv 2210.10768), sections 3 and 4; the mixture over λ in
closed form: Howard et al. 2021, gamma-exponential; Fan et al. 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln, logsumexp

from bandit_router.types import FloatArray, IntArray

# Where the control variate is cut. 0 is none: plain IPS.
CUTS = (0.0, 1.0, 4.0, 16.0, 64.0)
# The boundary is tightest where Σ (ξ − ξ̂)² is about ten; it is not sensitive to this.
_RHO = 1.0
_MOST_BET = 0.5


@dataclass
class LowerSums:
    """One-sided sums for the mean of terms φ ≥ −k, one column per cut. Filled in time order.

    Everything (J,): total Σφ; scatter Σ(ξ − ξ̂)² with ξ = φ/(k+1) and ξ̂ the past's mean;
    bets Σλ, won Σλξ and paid Σψ(λ)(ξ − ξ̂)² of the fixed-n bound.
    """

    cuts: FloatArray
    rounds: int
    alpha: float

    def __post_init__(self) -> None:
        size = self.cuts.size
        self.count = 0
        self.total, self.scatter = np.zeros(size), np.zeros(size)
        self.bets, self.won, self.paid = np.zeros(size), np.zeros(size), np.zeros(size)

    def add(self, terms: FloatArray) -> None:
        """Count the next rounds. terms: (m, J), φ_t in time order, φ ≥ −cut."""
        scale = self.cuts + 1.0
        number = self.count + np.arange(1, terms.shape[0] + 1)[:, None]
        before = np.vstack([np.zeros((1, terms.shape[1])), np.cumsum(terms, axis=0)[:-1]])
        # One imaginary round at one half keeps the first prediction sensible.
        centre = np.clip((self.total + before + 0.5) / number, 0.0, 1.0) / scale
        term = terms / scale
        square = (term - centre) ** 2
        past = np.vstack([np.zeros((1, terms.shape[1])), np.cumsum(square, axis=0)[:-1]])
        variance = (self.scatter + past + 0.25 / scale**2) / number
        bet = np.sqrt(2.0 * np.log(1.0 / self.alpha) / (variance * self.rounds))
        np.minimum(bet, _MOST_BET, out=bet)
        self.bets += bet.sum(axis=0)
        self.won += (bet * term).sum(axis=0)
        self.paid += ((-np.log1p(-bet) - bet) * square).sum(axis=0)
        self.total += terms.sum(axis=0)
        self.scatter += square.sum(axis=0)
        self.count += terms.shape[0]

    def lower_any_time(self) -> float:
        """A number that lies below the running mean at all times at once, but with chance α."""
        scale = self.cuts + 1.0

        def log_capital(mean: float) -> float:
            gained = self.total / scale - self.count * mean / scale
            wealth = [
                log_mixture(float(s), float(v)) for s, v in zip(gained, self.scatter, strict=True)
            ]
            return float(logsumexp(wealth) - np.log(len(wealth)))

        return self._lower(log_capital)

    def lower_fixed(self) -> float:
        """A number that lies below the mean after just these rounds, but with chance α; for
        terms whose conditional mean does not change."""
        scale = self.cuts + 1.0

        def log_capital(mean: float) -> float:
            wealth = self.won - self.bets * mean / scale - self.paid
            return float(logsumexp(wealth) - np.log(wealth.size))

        return self._lower(log_capital)

    def _lower(self, log_capital: Callable[[float], float]) -> float:
        """The least mean in [0, 1] that the capital has not refuted; it falls in the mean."""
        target = float(np.log(1.0 / self.alpha))
        if log_capital(0.0) < target:
            return 0.0
        if log_capital(1.0) >= target:
            return 1.0
        return float(brentq(lambda mean: log_capital(mean) - target, 0.0, 1.0, xtol=1e-9))


def log_mixture(gained: float, scatter: float) -> float:
    """log ∫ exp(λs − ψ(λ)v) dF(λ) with ψ(λ) = −log(1−λ) − λ, and 1 − λ gamma on (0, 1].

    A supermartingale in (s, v) = (Σ(ξ − mean), Σ(ξ − ξ̂)²) starting at one, so it exceeds 1/α
    with chance α at most, at any time. Source: Howard et al. 2021, proposition 9.
    """
    rate = gained + scatter + _RHO
    shape = scatter + _RHO
    if rate <= 0.0:
        # The integral is below one there: no evidence, and this is all that is asked.
        return -np.inf
    tail = gammainc(shape, rate)
    if tail <= 0.0:
        return -np.inf
    norm = gammaln(_RHO) + np.log(gammainc(_RHO, _RHO)) - _RHO * np.log(_RHO)
    return float(gained + scatter + gammaln(shape) + np.log(tail) - shape * np.log(rate) - norm)


def controlled_terms(
    weight: FloatArray,
    outcome: FloatArray,
    weights: FloatArray,
    target_pmf: FloatArray,
    predicted: FloatArray,
    arm: IntArray,
    cuts: FloatArray,
) -> FloatArray:
    """(m, J) terms φ = w·(y − q̃) + Σ_k π_k q̃_k with q̃_k = min(q̂_k, cut / w_k), so φ ≥ −cut.

    weight, outcome: (m,) of the chosen arm, outcome in [0, 1], weight 0 where it is not known.
    weights: (m, K) the most that each arm's weight can be. predicted: (m, K) q̂ in [0, 1].
    """
    rows = np.arange(weight.size)
    terms = np.empty((weight.size, cuts.size))
    for j, cut in enumerate(cuts):
        if cut == 0.0:
            terms[:, j] = weight * outcome
            continue
        with np.errstate(divide="ignore"):
            control = np.minimum(predicted, cut / weights)
        terms[:, j] = weight * (outcome - control[rows, arm]) + (target_pmf * control).sum(axis=1)
    return terms
