"""Bayesian linear regression kept as weighted sums, with its posterior beside them.

The sums are the state; mean and covariance follow from them. Because the sums are sums, the
posterior does not depend on the order in which rows arrive, a revision is an addition, and a
retraction is exact. Forgetting is by the age of the decision a row belongs to, towards the
prior: ``A(t) = A₀ + Σᵢ γ^(t−tᵢ) xᵢxᵢᵀ / σ²``, the fixed-point form of
``A ← γA + (1−γ)A₀ + xxᵀ/σ²``; it cannot wind up, since A₀ is never discounted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.linalg import blas, lapack

from bandit_router.types import BoolArray, FloatArray

# Updates between two factorisations: rank-one steps drift by rounding, this bounds the drift.
REFRESH_EVERY = 64
# Rows that are added to the gram matrix at once: many rank-one steps would each copy all of it.
ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Prior:
    """N(mean, diag(1 / precision)) on the weights, and the noise variance of one row.

    mean, precision: (d,). noise: σ², the variance of y given x.
    """

    mean: FloatArray
    precision: FloatArray
    noise: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Weighted sufficient statistics of rows (x, y, w).

    settled: (d, d) Fortran order, lower triangle of Σ w xxᵀ (the upper is not kept up) of all
    rows but the ``recent``: the newest few, each (d,) times √w, which are added at once.
    moment: (d,) Σ w y x. square: Σ w y². total: Σ w y. weight: Σ w.
    """

    settled: FloatArray
    moment: FloatArray
    square: float
    total: float
    weight: float
    recent: tuple[FloatArray, ...] = ()

    @property
    def gram(self) -> FloatArray:
        """(d, d) Fortran order, lower triangle of Σ w xxᵀ."""
        return _with_rows(self.settled, self.recent)

    @staticmethod
    def empty(dimension: int) -> Sums:
        """Sums of no rows."""
        return Sums(
            settled=np.zeros((dimension, dimension), order="F"),
            moment=np.zeros(dimension),
            square=0.0,
            total=0.0,
            weight=0.0,
        )

    @staticmethod
    def of(x: FloatArray, y: FloatArray, w: FloatArray) -> Sums:
        """Sums of many rows at once. x: (n, d), y: (n,), w: (n,)."""
        weighted = x * w[:, None]
        return Sums(
            settled=np.asfortranarray(weighted.T @ x),
            moment=weighted.T @ y,
            square=float(w @ (y * y)),
            total=float(w @ y),
            weight=float(w.sum()),
        )

    def plus(self, x: FloatArray, y: float, w: float) -> Sums:
        """These sums with one more row; a negative w takes a row out again."""
        weighted = w * y
        settled, recent = self.settled, self.recent
        if w > 0.0:
            recent = (*recent, x if w == 1.0 else math.sqrt(w) * x)
            if len(recent) == ROWS_AT_ONCE:
                settled, recent = _with_rows(settled, recent), ()
        elif w < 0.0:
            settled, recent = blas.dsyr(w, x, lower=1, a=self.gram), ()
        return Sums(
            settled,
            blas.daxpy(x, self.moment.copy(), a=weighted),
            self.square + weighted * y,
            self.total + weighted,
            self.weight + w,
            recent,
        )

    def joined(self, other: Sums) -> Sums:
        """The sums of both's rows."""
        return Sums(
            settled=self.gram + other.gram,
            moment=self.moment + other.moment,
            square=self.square + other.square,
            total=self.total + other.total,
            weight=self.weight + other.weight,
        )

    def plus_rows(self, x: FloatArray, y: FloatArray, w: FloatArray) -> Sums:
        """These sums with many more rows of weight w > 0. x: (r, d), y: (r,), w: (r,)."""
        weighted = w * y
        settled, recent = self.settled, (*self.recent, *(np.sqrt(w)[:, None] * x))
        if len(recent) >= ROWS_AT_ONCE:
            settled, recent = _with_rows(settled, recent), ()
        return Sums(
            settled,
            self.moment + weighted @ x,
            self.square + float(weighted @ y),
            self.total + float(weighted.sum()),
            self.weight + float(w.sum()),
            recent,
        )

    def revised(self, x: FloatArray, y_old: float, y_new: float, w: float) -> Sums:
        """These sums with one row's y replaced."""
        return replace(
            self,
            moment=self.moment + (w * (y_new - y_old)) * x,
            square=self.square + w * (y_new * y_new - y_old * y_old),
            total=self.total + w * (y_new - y_old),
        )

    def scaled(self, factor: float) -> Sums:
        """These sums with every weight multiplied by ``factor``."""
        return Sums(
            settled=self.gram * factor,
            moment=self.moment * factor,
            square=self.square * factor,
            total=self.total * factor,
            weight=self.weight * factor,
        )


def _with_rows(gram: FloatArray, rows: tuple[FloatArray, ...]) -> FloatArray:
    """The lower triangle with Σ xxᵀ of the rows added; the very matrix where there are none."""
    if not rows:
        return gram
    return np.asarray(blas.dsyrk(1.0, np.array(rows).T, beta=1.0, c=gram, lower=1))


@dataclass(frozen=True, slots=True)
class Posterior:
    """Belief about one arm's weights: N(mean, covariance).

    mean: (d,). covariance: (d, d), symmetric, both triangles. stale: rank-one steps
    since the covariance was last factorised from the sums.
    """

    sums: Sums
    mean: FloatArray
    covariance: FloatArray
    stale: int


def from_sums(sums: Sums, prior: Prior) -> Posterior:
    """The exact posterior of ``sums`` under ``prior``, by a Cholesky factorisation."""
    precision = sums.gram * (1.0 / prior.noise)
    diagonal = np.einsum("ii->i", precision)
    diagonal += prior.precision
    factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1, clean=0)
    if failed:
        # A retraction can leave the sums indefinite by rounding; a jitter of the size of the
        # rounding error mends that and nothing else.
        precision = sums.gram * (1.0 / prior.noise)
        diagonal = np.einsum("ii->i", precision)
        diagonal += prior.precision + 1e-9 * (1.0 + np.abs(diagonal))
        factor, failed = lapack.dpotrf(precision, lower=1, overwrite_a=1, clean=0)
        if failed:
            raise FloatingPointError(
                f"precision matrix of {sums.weight:g} weighted rows is not positive definite"
            )
    covariance, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    np.copyto(covariance, covariance.T, where=_above_diagonal(covariance.shape[0]))
    right = prior.precision * prior.mean + sums.moment / prior.noise
    mean = blas.dgemv(1.0, covariance, right)
    return Posterior(sums=sums, mean=mean, covariance=covariance, stale=0)


@lru_cache(maxsize=32)
def _above_diagonal(dimension: int) -> BoolArray:
    """(d, d) Fortran order, true above the diagonal: slow to make, so kept."""
    return np.asfortranarray(np.tri(dimension, k=-1, dtype=np.bool_).T)


def with_row(posterior: Posterior, prior: Prior, x: FloatArray, y: float, w: float) -> Posterior:
    """The posterior after one more row of weight w > 0, by Sherman–Morrison."""
    sums = posterior.sums.plus(x, y, w)
    if posterior.stale >= REFRESH_EVERY:
        return from_sums(sums, prior)
    gain = blas.dgemv(1.0, posterior.covariance, x)
    scale = w / (prior.noise + w * blas.ddot(x, gain))
    residual = y - blas.ddot(x, posterior.mean)
    # One vector on both sides keeps the matrix symmetric to the bit.
    half = blas.dscal(math.sqrt(scale), gain.copy())
    return Posterior(
        sums,
        blas.daxpy(gain, posterior.mean.copy(), a=scale * residual),
        blas.dger(-1.0, half, half, a=posterior.covariance),
        posterior.stale + 1,
    )


def with_rows(
    posterior: Posterior, prior: Prior, x: FloatArray, y: FloatArray, w: FloatArray
) -> Posterior:
    """The posterior after many more rows of weight w > 0, by Woodbury's identity.

    x: (r, d), y: (r,), w: (r,). As row after row, up to rounding.
    """
    if y.size == 1:
        return with_row(posterior, prior, x[0], y.item(), w.item())
    sums = posterior.sums.plus_rows(x, y, w)
    if posterior.stale >= REFRESH_EVERY:
        return from_sums(sums, prior)
    gain = blas.dgemm(1.0, posterior.covariance, x.T)
    inner = blas.dgemm(1.0, x.T, gain, trans_a=1)
    diagonal = np.einsum("ii->i", inner)
    diagonal += prior.noise / w
    factor, failed = lapack.dpotrf(inner, lower=0, overwrite_a=1, clean=0)
    if failed:
        return from_sums(sums, prior)
    # With UᵀU the factorised: gain · U⁻¹, whose product with its transpose is what is explained.
    half = blas.dtrsm(1.0, factor, gain, side=1, overwrite_b=1)
    residual = blas.dtrsv(factor, y - x @ posterior.mean, trans=1, overwrite_x=1)
    covariance = blas.dsyrk(-1.0, half, beta=1.0, c=posterior.covariance, lower=1)
    np.copyto(covariance, covariance.T, where=_above_diagonal(covariance.shape[0]))
    return Posterior(
        sums,
        blas.dgemv(1.0, half, residual, beta=1.0, y=posterior.mean),
        covariance,
        posterior.stale + 1,
    )


def with_revision(
    posterior: Posterior, prior: Prior, x: FloatArray, y_old: float, y_new: float, w: float
) -> Posterior:
    """The posterior after one row's y is replaced; the covariance does not change."""
    gain = blas.dgemv(w * (y_new - y_old) / prior.noise, posterior.covariance, x)
    return replace(
        posterior,
        sums=posterior.sums.revised(x, y_old, y_new, w),
        mean=posterior.mean + gain,
    )


def without_row(posterior: Posterior, prior: Prior, x: FloatArray, y: float, w: float) -> Posterior:
    """The posterior as if the row had never come; factorised afresh, since downdates drift."""
    return from_sums(posterior.sums.plus(x, y, -w), prior)


def mean_and_variance(posterior: Posterior, x: FloatArray) -> tuple[float, float]:
    """Mean and variance of xᵀθ (not of y: the noise is left out)."""
    spread = blas.dgemv(1.0, posterior.covariance, x)
    return blas.ddot(x, posterior.mean), blas.ddot(x, spread)
