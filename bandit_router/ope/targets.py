"""Target policies: what would have been chosen instead, as probabilities for logged rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bandit_router.errors import DataError
from bandit_router.ope.rounds import PMF_TOLERANCE, LoggedRounds
from bandit_router.types import FloatArray

# (n, K) probabilities for some rounds; a pure function of them, called on pieces of the log.
Target = Callable[[LoggedRounds], FloatArray]


def fixed(arm: str) -> Target:
    """Always the same arm, eligible or not: where it was not, the log has no support for it."""

    def target(rounds: LoggedRounds) -> FloatArray:
        pmf = np.zeros((len(rounds), len(rounds.arms)))
        pmf[:, _index(rounds, arm)] = 1.0
        return pmf

    return target


def mix(shares: Sequence[float]) -> Target:
    """The same random mix for every request, renormalised over the arms that are eligible.

    shares: (K,) not negative, summing to one. Raises DataError where they do not, or where no
    eligible arm has a share.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    if (wanted < 0.0).any() or abs(wanted.sum() - 1.0) > PMF_TOLERANCE:
        raise DataError(f"shares must not be negative and sum to 1; got {wanted.tolist()}")

    def target(rounds: LoggedRounds) -> FloatArray:
        if wanted.size != len(rounds.arms):
            raise DataError(f"{wanted.size} shares for {len(rounds.arms)} arms")
        pmf = np.where(rounds.eligible, wanted, 0.0)
        total = pmf.sum(axis=1, keepdims=True)
        if (total <= 0.0).any():
            row = int((total[:, 0] <= 0.0).argmax())
            raise DataError(f"round {rounds.order[row]}: no eligible arm has a share of the mix")
        return np.asarray(pmf / total)

    return target


def logging_policy() -> Target:
    """What the log itself did: weights are all one, and the estimate is the log's own mean."""
    return lambda rounds: rounds.pmf


def checked_pmf(target: Target, rounds: LoggedRounds) -> FloatArray:
    """The target's (n, K) probabilities. Raises DataError where they are none."""
    pmf = np.asarray(target(rounds), dtype=np.float64)
    shape = (len(rounds), len(rounds.arms))
    if pmf.shape != shape:
        raise DataError(f"a target must give {shape} probabilities; got {pmf.shape}")
    with np.errstate(invalid="ignore"):
        good = (pmf >= 0.0).all(axis=1) & (np.abs(pmf.sum(axis=1) - 1.0) <= PMF_TOLERANCE)
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"round {rounds.order[row]}: the target's probabilities {pmf[row].tolist()} are not "
            "all in [0, 1] or do not sum to 1"
        )
    return pmf


def _index(rounds: LoggedRounds, arm: str) -> int:
    if arm not in rounds.arms:
        raise DataError(f"no arm '{arm}' in the log; it has {', '.join(rounds.arms)}")
    return rounds.arms.index(arm)
