"""What each logged round says about a target policy, doubly robust.

Kept round by round, so that one pass gives a policy's mean, its difference from another one,
and both within any segment or slice. The reward model is the router's own linear one, with
prior scales set by the evidence, fitted on one half of the rounds to predict the other.
Source: Dudík et al. 2014; cross-fitting after Chernozhukov et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit_router import heads
from bandit_router.basis import coordinates_of_rows, fit_basis
from bandit_router.ope import LoggedRounds, Refusal, RefusalReason
from bandit_router.ope.estimate import Limits
from bandit_router.policies.linear import COLD_BIAS_SD, LEAST_NOISE, cold_prior
from bandit_router.protocols import FeatureBlock
from bandit_router.types import BoolArray, FloatArray, IntArray

FOLDS = 2
# A block of rounds goes to one fold and the next to the other, so that drift is in both.
FOLD_BLOCK = 50
# More rounds than this do not sharpen a reward model of a few dozen weights.
MOST_FITTED = 100_000
CHUNK = 65_536
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over rounds with its 95 % interval. n: rounds."""

    value: float
    low: float
    high: float
    n: int


def mean_of(values: FloatArray) -> Mean:
    """The mean of per-round contributions; they are a martingale's steps under any log."""
    value = float(values.mean())
    error = float(values.std(ddof=1)) / values.size**0.5 if values.size > 1 else float("inf")
    return Mean(value, value - Z95 * error, value + Z95 * error, values.size)


@dataclass(frozen=True, slots=True)
class OutcomeModel:
    """One outcome of a log, and what is expected of it. name: ``reward`` …

    predicted: (n, K), cross-fitted. seen: (n,) one over the share of the arm's rounds whose
    outcome is known, 0 where it is not. outcome: (n,) 0 where not known.
    """

    name: str
    predicted: FloatArray
    seen: FloatArray
    outcome: FloatArray

    @property
    def known(self) -> bool:
        """Whether anything is known of it at all."""
        return bool((self.seen > 0.0).any())


def outcome_model(rounds: LoggedRounds, name: str) -> OutcomeModel:
    """Fit one outcome. Where it is missing, that is taken to depend on the arm alone."""
    outcome = rounds.outcome(name)
    there = np.isfinite(outcome)
    count = len(rounds.arms)
    pulls = np.bincount(rounds.arm, minlength=count)
    told = np.bincount(rounds.arm[there], minlength=count)
    rate = told / np.maximum(pulls, 1)
    seen = np.where(there, 1.0 / np.maximum(rate, 1e-300)[rounds.arm], 0.0)
    return OutcomeModel(
        name=name,
        predicted=_predicted(rounds, outcome, there),
        seen=seen,
        outcome=np.where(there, outcome, 0.0),
    )


def _predicted(rounds: LoggedRounds, outcome: FloatArray, there: BoolArray) -> FloatArray:
    """(n, K) of each fold by a fit on the others; outcomes are scaled for the fit."""
    count = len(rounds)
    predicted = np.zeros((count, len(rounds.arms)))
    if not there.any():
        return predicted
    scale = _scales(rounds, outcome, there)
    fold = (np.arange(count) // FOLD_BLOCK) % FOLDS
    width = rounds.features.shape[1]
    for number in range(FOLDS):
        train = np.flatnonzero((fold != number) & there)
        if not train.size:
            train = np.flatnonzero(there)
        train = train[:: max(train.size // MOST_FITTED, 1)]
        features = np.asarray(rounds.features[train], dtype=np.float64)
        names = tuple(f"x{i}" for i in range(width))
        basis = fit_basis(features, names, (FeatureBlock("x", 0, width),) if width else ())
        bank = heads.refitted(
            heads.sums_by_arm(
                coordinates_of_rows(basis, features),
                rounds.arm[train],
                outcome[train] / scale[rounds.arm[train]],
                np.ones(train.size),
                len(rounds.arms),
            ),
            basis.groups,
            cold_prior(basis.dimension),
            bias_sd=COLD_BIAS_SD,
            least_noise=LEAST_NOISE,
        )
        for part in np.array_split(np.flatnonzero(fold == number), max(count // CHUNK, 1)):
            z = coordinates_of_rows(basis, np.asarray(rounds.features[part], dtype=np.float64))
            predicted[part] = scale * (z @ bank.means.T)
    for k in range(len(rounds.arms)):
        own = outcome[there & (rounds.arm == k)]
        if own.size:
            np.clip(predicted[:, k], own.min(), own.max(), out=predicted[:, k])
    return predicted


def _scales(rounds: LoggedRounds, outcome: FloatArray, there: BoolArray) -> FloatArray:
    """(K,) what each arm's outcomes are divided by for the fit: their mean, so that a model a
    hundred times as dear does not set the noise of a cheap one."""
    overall = max(float(np.abs(outcome[there]).mean()), 1e-300)
    scales = np.full(len(rounds.arms), overall)
    for k in range(len(rounds.arms)):
        own = np.abs(outcome[there & (rounds.arm == k)])
        if own.size and own.mean() > 0.0:
            scales[k] = float(own.mean())
    return scales


@dataclass(frozen=True, slots=True)
class Weights:
    """How a target lies to the log. weight: (n,) target over logged probability of the arm.

    unsupported: mean target probability on arms that the log could not have chosen, and which
    arm most of that is on, "" for none.
    """

    weight: FloatArray
    effective_sample_size: float
    largest: float
    unsupported: float
    unsupported_arm: str


def weights_of(rounds: LoggedRounds, pmf: FloatArray) -> Weights:
    """The weights of a target's (n, K) probabilities."""
    weight = np.take_along_axis(pmf, rounds.arm[:, None], axis=1)[:, 0] / rounds.propensity
    squares = float(weight @ weight)
    lost = np.where(rounds.pmf > 0.0, 0.0, pmf).mean(axis=0)
    return Weights(
        weight=weight,
        effective_sample_size=float(weight.sum()) ** 2 / squares if squares else 0.0,
        largest=float(weight.max()),
        unsupported=float(lost.sum()),
        unsupported_arm=rounds.arms[int(lost.argmax())] if lost.any() else "",
    )


def refusal_of(weights: Weights, rounds: LoggedRounds, limits: Limits) -> Refusal | None:
    """Why the log cannot carry an estimate of this target; None where it can."""
    if weights.unsupported > limits.most_unsupported:
        return Refusal(
            RefusalReason.NO_SUPPORT,
            f"It gives {weights.unsupported:.1%} of its choices to models that the log could not "
            f"have chosen there, most to {weights.unsupported_arm}. Log with an exploration floor "
            "for it, or leave it out.",
            arm=weights.unsupported_arm,
        )
    needed = limits.least_effective_sample_size
    if weights.effective_sample_size < needed:
        share = max(weights.effective_sample_size, 1e-9) / len(rounds)
        more = int(np.ceil(needed / share)) - len(rounds)
        return Refusal(
            RefusalReason.EFFECTIVE_SAMPLE_SIZE,
            f"The effective sample size is {weights.effective_sample_size:.0f}, and at least "
            f"{needed:.0f} are needed: about {more:,} more decisions of this log, or more "
            "exploration of what it chooses.",
            more_decisions=more,
        )
    if weights.largest > limits.largest_weight:
        worst = int(weights.weight.argmax())
        arm = rounds.arms[int(rounds.arm[worst])]
        return Refusal(
            RefusalReason.LARGEST_WEIGHT,
            f"One decision would count {weights.largest:.0f} times (at most "
            f"{limits.largest_weight:.0f} are trusted): {arm} was chosen there with probability "
            f"{rounds.propensity[worst]:.4f}. A larger exploration floor for {arm} would help.",
            arm=arm,
        )
    return None


def contributions(
    rounds: LoggedRounds, model: OutcomeModel, pmf: FloatArray, weight: FloatArray
) -> FloatArray:
    """(n,) doubly robust contributions, whose mean estimates the target's mean outcome."""
    index: IntArray = rounds.arm[:, None]
    own = np.take_along_axis(model.predicted, index, axis=1)[:, 0]
    residual = np.where(model.seen > 0.0, model.outcome - own, 0.0)
    return np.asarray((pmf * model.predicted).sum(axis=1) + weight * model.seen * residual)
