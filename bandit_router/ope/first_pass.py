"""The first pass over a log: all sums that models, weights and rates are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bandit_router.ope import feedback
from bandit_router.ope.blocks import Block, Source, fixed_blocks
from bandit_router.ope.contributions import Contributions
from bandit_router.ope.diagnostics import (
    PROBABILITY_EDGES,
    Bins,
    WeightTally,
    add_propensities,
)
from bandit_router.ope.options import Options
from bandit_router.ope.reward_model import (
    FOLDS,
    CrossFitted,
    ModelSums,
    Scaling,
    cross_fitted,
    fold_of,
)
from bandit_router.ope.rounds import OUTCOMES
from bandit_router.ope.targets import Target, checked_pmf
from bandit_router.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What the later passes need. response: coefficients by outcome name, absent where the
    outcome is known of every round."""

    n: int
    arms: tuple[str, ...]
    segments: tuple[str, ...]
    scaling: Scaling
    model: CrossFitted
    tallies: Mapping[str, WeightTally]
    propensities: Bins
    rates: feedback.RateTally
    response: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One block with what all targets share. predicted, seen: by outcome name, (m, K) and (m,)."""

    block: Block
    design: FloatArray
    predicted: Mapping[str, FloatArray]
    values: Mapping[str, FloatArray]
    seen: Mapping[str, FloatArray]
    uniform: FloatArray

    def contributions(self, name: str, pmf: FloatArray, bound: float) -> Contributions:
        """The rounds under a target's (m, K) pmf, for one outcome."""
        rounds = self.block.rounds
        rows = np.arange(len(rounds))
        predicted = self.predicted[name]
        return Contributions(
            weight=pmf[rows, rounds.arm] / rounds.propensity,
            seen=self.seen[name],
            outcome=np.nan_to_num(self.values[name]),
            predicted=predicted[rows, rounds.arm],
            predicted_target=np.einsum("mk,mk->m", pmf, predicted),
            uniform=self.uniform,
            weight_bound=bound,
        )


def first_pass(
    source: Source, targets: Mapping[str, Target], options: Options, on_block: Callable[[], None]
) -> FirstLook:
    """Read the log once."""
    scaling: Scaling | None = None
    counted = 0
    lowest, highest = np.full(len(OUTCOMES), np.inf), np.full(len(OUTCOMES), -np.inf)
    missing = dict.fromkeys(options.names, False)
    for block in fixed_blocks(source):
        rounds = block.rounds
        outcomes = [rounds.outcome(name) for name in OUTCOMES]
        if scaling is None:
            arms, segments = rounds.arms, rounds.segments
            scaling = Scaling.of(rounds.features)
            sums = ModelSums(len(OUTCOMES), FOLDS * len(arms), 1 + rounds.features.shape[1])
            tallies = {name: WeightTally(arms, segments) for name in targets}
            bins = Bins(PROBABILITY_EDGES)
        design = scaling.design(rounds.features)
        sums.add(design, fold_of(block.positions) * len(arms) + rounds.arm, outcomes)
        for c, outcome in enumerate(outcomes):
            known = outcome[np.isfinite(outcome)]
            lowest[c] = min(lowest[c], known.min(initial=np.inf))
            highest[c] = max(highest[c], known.max(initial=-np.inf))
        for name in options.names:
            missing[name] |= bool(np.isnan(options.values(rounds, name)).any())
        for name, target in targets.items():
            tallies[name].add(rounds, checked_pmf(target, rounds))
        add_propensities(bins, rounds.pmf, rounds.arm)
        counted += len(rounds)
        on_block()
    assert scaling is not None
    unknown = ~np.isfinite(lowest)
    lowest[unknown] = highest[unknown] = 0.0
    rates = feedback.RateTally(counted, len(arms))
    response = _responses(source, options, scaling, missing, counted, rates)
    return FirstLook(
        n=counted,
        arms=arms,
        segments=segments,
        scaling=scaling,
        model=cross_fitted(sums, len(arms), lowest, highest),
        tallies=tallies,
        propensities=bins,
        rates=rates,
        response=response,
    )


def prepared(
    source: Source, options: Options, look: FirstLook, on_block: Callable[[], None]
) -> Iterator[Prepared]:
    """The log's blocks with predictions from fits that have not seen them."""
    for block in fixed_blocks(source):
        design = look.scaling.design(block.rounds.features)
        fold = fold_of(block.positions)
        parts = [look.model.predict(c, design, fold) for c in range(len(OUTCOMES))]
        values = {name: options.values(block.rounds, name) for name in options.names}
        yield Prepared(
            block=block,
            design=design,
            predicted={name: _combined(parts, options.factors(name)) for name in options.names},
            values=values,
            seen={
                name: _seen(block, design, np.isfinite(values[name]), look.response.get(name))
                for name in options.names
            },
            uniform=np.random.default_rng([options.seed, 1, block.index]).random(fold.size),
        )
        on_block()


def _combined(parts: list[FloatArray], factors: FloatArray) -> FloatArray:
    return np.asarray(sum(f * part for f, part in zip(factors, parts, strict=True) if f))


def _seen(
    block: Block, design: FloatArray, known: BoolArray, coefficients: FloatArray | None
) -> FloatArray:
    if coefficients is None:
        return known.astype(np.float64)
    rate = feedback.response_rate(feedback.response_design(design, block.rounds), coefficients)
    return np.where(known, 1.0 / rate, 0.0)


def _responses(
    source: Source,
    options: Options,
    scaling: Scaling,
    missing: Mapping[str, bool],
    count: int,
    rates: feedback.RateTally,
) -> dict[str, FloatArray]:
    """Response models of the outcomes that are missing somewhere but not everywhere."""
    every = -(-count // feedback.FIT_ROUNDS)
    designs: list[FloatArray] = []
    known: dict[str, list[FloatArray]] = {name: [] for name, lacks in missing.items() if lacks}
    for block in fixed_blocks(source):
        rates.add(block.start, block.rounds)
        if not known:
            continue
        rounds = block.rounds.rows(block.positions % every == 0)
        designs.append(feedback.response_design(scaling.design(rounds.features), rounds))
        for name, parts in known.items():
            parts.append(np.isfinite(options.values(rounds, name)).astype(np.float64))
    found: dict[str, FloatArray] = {}
    for name, parts in known.items():
        flags = np.concatenate(parts)
        if flags.any():
            found[name] = feedback.fit_response(np.vstack(designs), flags)
    return found
