"""Carry head banks through named arrays, bit for bit.

Only what cannot be derived is kept, and where a derived array depends on the path that led
to it (the rank-one updated covariance), it is kept too: a reader must reach the same pmf.
Symmetric matrices travel as their lower triangles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bandit_router.heads import HeadBank
from bandit_router.posterior import Posterior, Prior, Sums
from bandit_router.types import FloatArray


def bank_arrays(state: HeadBank) -> dict[str, FloatArray]:
    """The bank as named arrays."""
    dimension = state.prior.mean.size
    rows, columns = np.tril_indices(dimension)
    return {
        "prior_mean": state.prior.mean,
        "prior_precision": state.prior.precision,
        "noise": np.array([state.prior.noise]),
        "gram": np.stack([arm.sums.gram[rows, columns] for arm in state.arms]),
        "moment": np.stack([arm.sums.moment for arm in state.arms]),
        "scalars": np.array(
            [
                [arm.sums.square, arm.sums.total, arm.sums.weight, float(arm.stale)]
                for arm in state.arms
            ]
        ),
        "mean": state.means,
        "covariance": np.stack([arm.covariance[rows, columns] for arm in state.arms]),
    }


def bank_from_arrays(arrays: Mapping[str, FloatArray]) -> HeadBank:
    """The bank back from its arrays."""
    prior = Prior(
        mean=arrays["prior_mean"],
        precision=arrays["prior_precision"],
        noise=float(arrays["noise"][0]),
    )
    rows, columns = np.tril_indices(prior.mean.size)

    def lower(values: FloatArray) -> FloatArray:
        matrix = np.zeros((prior.mean.size, prior.mean.size), order="F")
        matrix[rows, columns] = values
        return matrix

    def symmetric(values: FloatArray) -> FloatArray:
        matrix = lower(values)
        matrix[columns, rows] = values
        return matrix

    arms = tuple(
        Posterior(
            sums=Sums(
                gram=lower(arrays["gram"][k]),
                moment=arrays["moment"][k],
                square=float(square),
                total=float(total),
                weight=float(weight),
            ),
            mean=arrays["mean"][k],
            covariance=symmetric(arrays["covariance"][k]),
            stale=int(stale),
        )
        for k, (square, total, weight, stale) in enumerate(arrays["scalars"])
    )
    return HeadBank(prior=prior, arms=arms, means=arrays["mean"])
