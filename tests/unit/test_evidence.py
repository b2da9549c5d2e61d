"""The marginal likelihood of one head's rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bandit_router.evidence import log_evidence
from bandit_router.posterior import Prior, Sums
from bandit_router.types import FloatArray

START = Prior(mean=np.array([0.5, 0.0, 0.0]), precision=np.ones(3), noise=0.1)


def rows(count: int, dimension: int, seed: int) -> FloatArray:
    x = np.random.default_rng(seed).normal(size=(count, dimension))
    x[:, 0] = 1.0
    return x


def test_evidence_is_the_marginal_normal_density() -> None:
    prior = Prior(mean=np.array([0.4, 0.1, -0.2]), precision=np.array([2.0, 5.0, 9.0]), noise=0.3)
    x = rows(7, 3, seed=0)
    y = np.random.default_rng(1).uniform(size=7)
    direct = multivariate_normal(
        mean=x @ prior.mean,
        cov=prior.noise * np.eye(7) + x @ np.diag(1.0 / prior.precision) @ x.T,
    ).logpdf(y)
    assert log_evidence(Sums.of(x, y, np.ones(7)), prior) == pytest.approx(direct, abs=1e-10)


def test_evidence_of_no_rows_is_certain() -> None:
    assert log_evidence(Sums.empty(3), START) == pytest.approx(0.0, abs=1e-12)


def test_a_row_of_weight_two_is_two_rows_of_half_the_spread_between() -> None:
    # Equal rows: weight 2 has the evidence of the row twice.
    x, y = rows(1, 3, seed=2), np.array([0.7])
    doubled = Sums.of(np.vstack([x, x]), np.r_[y, y], np.ones(2))
    assert log_evidence(Sums.of(x, y, np.array([2.0])), START) == pytest.approx(
        log_evidence(doubled, START), abs=1e-12
    )
