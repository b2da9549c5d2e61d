"""The model of outcomes that DM and DR look at: one ridge regression per arm.

Everything is fitted from sums over rounds, so a log of any length needs one pass. Noise and
scale are those that the sums' own evidence favours, as in the router's own heads. Predictions
for a round come from a fit that has not seen it: folds for the estimators, the past alone for
confidence sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bandit_router import heads
from bandit_router.ope.blocks import Block
from bandit_router.posterior import Prior, Sums
from bandit_router.types import FeatureArray, FloatArray, IntArray

FOLDS = 5
# On standardised outcomes: an arm's mean lies within two or so, and no model explains all.
_BIAS_SD = 1.0
_LEAST_NOISE = 1e-4
_COLD_SCALE = 0.1
# The forward model is fitted anew whenever the rounds behind it have grown by half.
FIRST_FIT = 48
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Scaling:
    """Features of about mean 0 and sd 1. shift, scale: (d,)."""

    shift: FloatArray
    scale: FloatArray

    @staticmethod
    def of(features: FloatArray | FeatureArray) -> Scaling:
        """By the first block, so that the rest of the log need not be read before."""
        with_type = np.asarray(features, dtype=np.float64)
        spread = with_type.std(axis=0)
        return Scaling(shift=with_type.mean(axis=0), scale=np.where(spread > 1e-9, spread, 1.0))

    def design(self, features: FloatArray | FeatureArray) -> FloatArray:
        """(m, 1 + d) a constant and the scaled features."""
        design = np.empty((features.shape[0], 1 + self.shift.size))
        design[:, 0] = 1.0
        np.subtract(features, self.shift, out=design[:, 1:])
        design[:, 1:] /= self.scale
        return design


@dataclass
class ModelSums:
    """Sums of several outcomes, by group of rounds. Filled block by block, then only read.

    gram: (C, G, D, D). moment: (C, G, D). square, total, weight: (C, G), for C outcomes.
    """

    outcome_count: int
    group_count: int
    dimension: int
    gram: FloatArray = field(init=False)
    moment: FloatArray = field(init=False)
    square: FloatArray = field(init=False)
    total: FloatArray = field(init=False)
    weight: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.outcome_count, self.group_count)
        self.gram = np.zeros((*shape, self.dimension, self.dimension))
        self.moment = np.zeros((*shape, self.dimension))
        self.square, self.total, self.weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, design: FloatArray, group: IntArray, outcomes: Sequence[FloatArray]) -> None:
        """Count some rounds. group: (m,). outcomes: C arrays (m,), NaN where not known."""
        order = np.argsort(group, kind="stable")
        edges = np.searchsorted(group[order], np.arange(self.group_count + 1))
        for g in range(self.group_count):
            rows = order[edges[g] : edges[g + 1]]
            if rows.size:
                self._add_group(g, design[rows], [outcome[rows] for outcome in outcomes])

    def _add_group(self, g: int, design: FloatArray, outcomes: Sequence[FloatArray]) -> None:
        # Outcomes that are known of the same rounds share their gram matrix.
        grams: list[tuple[FloatArray, FloatArray]] = []
        for c, outcome in enumerate(outcomes):
            there = np.isfinite(outcome)
            if not there.any():
                continue
            x, y = (design, outcome) if there.all() else (design[there], outcome[there])
            gram = next((gram for mask, gram in grams if np.array_equal(mask, there)), None)
            if gram is None:
                gram = x.T @ x
                grams.append((there, gram))
            self.gram[c, g] += gram
            self.moment[c, g] += y @ x
            self.square[c, g] += float(y @ y)
            self.total[c, g] += float(y.sum())
            self.weight[c, g] += y.size

    def coefficients(self, outcome: int, groups: Sequence[Sequence[int]]) -> FloatArray:
        """(K, D) ridge coefficients, one head per list of groups whose sums are its own.

        Outcomes are standardised first, so that the fit does not depend on their unit.
        """
        picked = [list(members) for members in groups]
        weight = np.array([self.weight[outcome, m].sum() for m in picked])
        total = np.array([self.total[outcome, m].sum() for m in picked])
        square = np.array([self.square[outcome, m].sum() for m in picked])
        known = float(weight.sum())
        coefficients = np.zeros((len(picked), self.dimension))
        if known == 0.0:
            return coefficients
        centre = float(total.sum()) / known
        variance = float(square.sum()) / known - centre * centre
        # What rounding leaves of a constant outcome is no spread.
        unit = np.sqrt(variance) if variance > 1e-12 * centre * centre else 0.0
        coefficients[:, 0] = centre
        if unit == 0.0:
            return coefficients
        sums = []
        for k, members in enumerate(picked):
            gram = self.gram[outcome, members].sum(axis=0)
            moment = self.moment[outcome, members].sum(axis=0)
            sums.append(
                Sums(
                    settled=np.asfortranarray(gram),
                    moment=(moment - centre * gram[0]) / unit,
                    square=max(
                        (square[k] - 2.0 * centre * total[k] + centre**2 * weight[k]) / unit**2, 0.0
                    ),
                    total=(total[k] - centre * weight[k]) / unit,
                    weight=weight[k],
                )
            )
        bank = heads.refitted(
            sums,
            _groups(self.dimension),
            _cold_prior(self.dimension),
            bias_sd=_BIAS_SD,
            least_noise=_LEAST_NOISE,
        )
        return np.asarray(coefficients + unit * bank.means)


def fold_of(positions: IntArray) -> IntArray:
    """(m,) fold of each round by its place in the log; scattered, so that no daily rhythm falls
    together with the folds (Knuth's multiplicative hash)."""
    return np.asarray(((positions * 2654435761) % 2**32 >> 13) % FOLDS)


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """coefficients: (C, FOLDS, K, D), each fold's fitted on the other folds.
    lowest, highest: (C,) range of each outcome, which no prediction leaves."""

    coefficients: FloatArray
    lowest: FloatArray
    highest: FloatArray

    def predict(self, outcome: int, design: FloatArray, fold: IntArray) -> FloatArray:
        """(m, K) outcomes of every arm."""
        predicted = np.empty((design.shape[0], self.coefficients.shape[2]))
        for f in range(FOLDS):
            rows = np.flatnonzero(fold == f)
            predicted[rows] = design[rows] @ self.coefficients[outcome, f].T
        return np.clip(predicted, self.lowest[outcome], self.highest[outcome], out=predicted)


def cross_fitted(
    sums: ModelSums, arm_count: int, lowest: FloatArray, highest: FloatArray
) -> CrossFitted:
    """The fits of ``sums`` whose groups are fold · K + arm."""
    coefficients = np.zeros((sums.outcome_count, FOLDS, arm_count, sums.dimension))
    for c in range(sums.outcome_count):
        for f in range(FOLDS):
            others = [[g * arm_count + k for g in range(FOLDS) if g != f] for k in range(arm_count)]
            coefficients[c, f] = sums.coefficients(c, others)
    return CrossFitted(coefficients, lowest, highest)


class ForwardModel:
    """Predictions of bounded outcomes from the rounds before alone, fitted anew as they grow."""

    def __init__(self, bounds: Sequence[tuple[float, float]], arm_count: int, dimension: int):
        self._bounds = bounds
        self._arms = arm_count
        self._sums = ModelSums(len(bounds), arm_count, dimension)
        self._next_fit = FIRST_FIT
        # Before any round: the middle of what is possible.
        self._coefficients = np.zeros((len(bounds), arm_count, dimension))
        self._coefficients[:, :, 0] = np.array([0.5 * (low + high) for low, high in bounds])[
            :, None
        ]

    def predict(
        self, block: Block, design: FloatArray, outcomes: Sequence[FloatArray]
    ) -> list[FloatArray]:
        """C arrays (m, K): predictions for the next block, which is then learned from."""
        arm = block.rounds.arm
        predicted = [np.empty((arm.size, self._arms)) for _ in self._bounds]
        done = 0
        while done < arm.size:
            stop = min(arm.size, self._next_fit - block.start)
            part = slice(done, stop)
            for c, (low, high) in enumerate(self._bounds):
                values = design[part] @ self._coefficients[c].T
                np.clip(values, low, high, out=predicted[c][part])
            self._sums.add(design[part], arm[part], [outcome[part] for outcome in outcomes])
            done = stop
            if block.start + done == self._next_fit:
                self._next_fit = int(self._next_fit * _GROWTH)
                own = [[k] for k in range(self._arms)]
                self._coefficients = np.stack(
                    [self._sums.coefficients(c, own) for c in range(len(self._bounds))]
                )
        return predicted


def _groups(dimension: int) -> FloatArray:
    groups = np.ones(dimension)
    groups[0] = 0.0
    return groups


def _cold_prior(dimension: int) -> Prior:
    precision = np.full(dimension, _COLD_SCALE**-2)
    precision[0] = _BIAS_SD**-2
    return Prior(mean=np.zeros(dimension), precision=precision, noise=1.0)
