"""Laws of the estimators, for any log that hypothesis can think of."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit_router.ope import (
    ESTIMATORS,
    Limits,
    LoggedRounds,
    Options,
    evaluate,
    fixed,
    logged_rounds,
    mix,
)
from bandit_router.ope.blocks import fixed_blocks, source_of
from bandit_router.ope.contributions import Contributions, value_of

ALL = Limits(least_effective_sample_size=0.0, largest_weight=np.inf, most_unsupported=1.0)


@st.composite
def contributions(draw: st.DrawFn) -> Contributions:
    size = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharpness = draw(st.floats(0.1, 3.0))
    weight = np.exp(sharpness * rng.normal(size=size)) * (rng.random(size) < 0.9)
    return Contributions(
        weight=weight,
        seen=(rng.random(size) < 0.9) / rng.uniform(0.3, 1.0, size),
        outcome=rng.random(size),
        predicted=rng.random(size),
        predicted_target=rng.random(size),
        uniform=rng.random(size),
        weight_bound=float(weight.max()) + 1.0,
    )


thresholds = st.sampled_from([0.5, 2.0, 10.0, np.inf])
names = st.sampled_from(sorted(ESTIMATORS))


def changed(rounds: Contributions, **arrays: Any) -> Contributions:
    return replace(rounds, **arrays)


@given(contributions(), names, thresholds, st.randoms())
def test_the_order_of_rounds_does_not_matter(
    rounds: Contributions, name: str, threshold: float, random: Any
) -> None:
    order = list(range(rounds.weight.size))
    random.shuffle(order)
    parts = ["weight", "seen", "outcome", "predicted", "predicted_target", "uniform"]
    shuffled = changed(rounds, **{part: getattr(rounds, part)[order] for part in parts})
    one, other = (value_of(ESTIMATORS[name], each, threshold) for each in (rounds, shuffled))
    assert one == pytest.approx(other, rel=1e-9, abs=1e-12, nan_ok=True)


@given(contributions(), names, thresholds, st.floats(1e-3, 1e3))
def test_a_value_scales_with_the_unit_of_the_outcome(
    rounds: Contributions, name: str, threshold: float, unit: float
) -> None:
    parts = ("outcome", "predicted", "predicted_target")
    scaled = changed(rounds, **{part: unit * getattr(rounds, part) for part in parts})
    one, other = (value_of(ESTIMATORS[name], each, threshold) for each in (rounds, scaled))
    assert other == pytest.approx(unit * one, rel=1e-9, abs=1e-12, nan_ok=True)


@given(contributions(), st.sampled_from(["snips", "replay"]), st.floats(-5.0, 5.0))
def test_self_normalised_values_stay_in_range_and_move_with_the_zero(
    rounds: Contributions, name: str, shift: float
) -> None:
    value = value_of(ESTIMATORS[name], rounds)
    if np.isnan(value):
        (_, normaliser) = ESTIMATORS[name].terms(rounds, np.inf).columns
        assert not normaliser.any()
        return
    known = rounds.outcome[rounds.seen > 0.0]
    assert known.min() - 1e-12 <= value <= known.max() + 1e-12
    moved = changed(rounds, outcome=rounds.outcome + shift)
    assert value_of(ESTIMATORS[name], moved) == pytest.approx(value + shift, abs=1e-9)


@given(contributions(), st.floats(0.1, 50.0))
def test_shrinking_weights_never_raises_what_is_not_negative(
    rounds: Contributions, threshold: float
) -> None:
    clipped = value_of(ESTIMATORS["clipped_ips"], rounds, threshold)
    assert -1e-12 <= clipped <= value_of(ESTIMATORS["ips"], rounds) + 1e-12


def _log(seed: int, size: int) -> LoggedRounds:
    rng = np.random.default_rng(seed)
    pmf = rng.dirichlet(np.ones(3), size) * 0.9 + 0.1 / 3.0
    arm = np.minimum((pmf.cumsum(axis=1) < rng.random(size)[:, None]).sum(axis=1), 2)
    return logged_rounds(
        arms=("a", "b", "c"),
        arm=arm,
        pmf=pmf,
        reward=np.where(rng.random(size) < 0.8, rng.random(size), np.nan),
        features=rng.normal(size=(size, 2)),
    )


@given(st.integers(0, 1000), st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_blocks_do_not_depend_on_the_pieces(seed: int, sizes: list[int]) -> None:
    log = _log(seed, sum(sizes) + 1)
    edges = np.cumsum([0, *sizes, 1])
    pieces = [log.rows(slice(int(start), int(stop))) for start, stop in pairwise(edges)]
    whole, streamed = list(fixed_blocks(source_of(log))), list(fixed_blocks(lambda: pieces))
    assert [block.start for block in whole] == [block.start for block in streamed]
    for one, other in zip(whole, streamed, strict=True):
        assert np.array_equal(one.rounds.pmf, other.rounds.pmf)
        assert np.array_equal(one.rounds.reward, other.rounds.reward, equal_nan=True)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.integers(30, 200))
def test_an_evaluation_does_not_depend_on_the_order_of_rows_in_the_file(
    seed: int, size: int
) -> None:
    log = _log(seed, size)
    shuffle = np.random.default_rng(seed).permutation(size)
    columns = {
        name: getattr(log, name)[shuffle] for name in ("arm", "pmf", "reward", "features", "order")
    }
    shuffled = logged_rounds(arms=log.arms, **columns)
    options = Options(outcomes=("reward",), resamples=20, limits=ALL)
    targets = {"b": fixed("b"), "mix": mix([0.2, 0.3, 0.5])}
    one, other = evaluate(log, targets, options), evaluate(shuffled, targets, options)
    for name in targets:
        assert repr(one[name].estimates) == repr(other[name].estimates)
