"""Laws of the core that hold for any input, not just for the examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from core_samples import folded, make_policy, make_problem, make_row
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bandit_router import pacing
from bandit_router.choice import draw, mix
from bandit_router.config import ExplorationConfig
from bandit_router.errors import SnapshotError
from bandit_router.exploration import Activity, explored
from bandit_router.pmf import argmax_pmf
from bandit_router.posterior import Prior, Sums, from_sums, with_row, without_row
from bandit_router.snapshot import from_bytes, to_bytes
from bandit_router.types import FloatArray

PROBLEM = make_problem(budget_usd=1e-3)
POLICY = make_policy()
# A busy machine may take its time.
UNTIMED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
CUSTOM = settings(max_examples=60, **UNTIMED)


def vectors(size: int, low: float, high: float) -> st.SearchStrategy[FloatArray]:
    # Nine digits: no cost or reward is a denormal number.
    rounded = st.floats(low, high).map(lambda value: round(value, 9))
    return arrays(np.float64, size, elements=rounded)


@st.composite
def normals(draws: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    count = draws(st.integers(1, 12))
    return draws(vectors(count, -3.0, 3.0)), draws(vectors(count, 0.0, 2.0))


@CUSTOM
@given(normals())
def test_a_pmf_is_a_pmf(arms: tuple[FloatArray, FloatArray]) -> None:
    mean, sd = arms
    pmf = argmax_pmf(mean, sd)
    assert pmf.shape == mean.shape
    assert (pmf >= 0.0).all()
    assert abs(pmf.sum() - 1.0) < 1e-12


@CUSTOM
@given(normals(), st.randoms(use_true_random=False))
def test_a_pmf_does_not_depend_on_the_order_of_arms(
    arms: tuple[FloatArray, FloatArray], random: Any
) -> None:
    mean, sd = arms
    order = list(range(mean.size))
    random.shuffle(order)
    np.testing.assert_allclose(
        argmax_pmf(mean[order], sd[order]), argmax_pmf(mean, sd)[order], atol=1e-9
    )


@CUSTOM
@given(normals(), st.floats(-5.0, 5.0), st.floats(0.1, 100.0))
def test_a_pmf_does_not_depend_on_the_unit_of_utility(
    arms: tuple[FloatArray, FloatArray], shift: float, scale: float
) -> None:
    mean, sd = arms
    sd = np.maximum(sd, 1e-3)
    np.testing.assert_allclose(
        argmax_pmf(scale * mean + shift, scale * sd), argmax_pmf(mean, sd), atol=2e-3
    )


@CUSTOM
@given(normals(), st.data())
def test_exploration_leaves_a_pmf_within_its_dollars(
    arms: tuple[FloatArray, FloatArray], data: st.DataObject
) -> None:
    mean, sd = arms
    count = mean.size
    eligible = data.draw(arrays(np.bool_, count))
    assume(eligible.any())
    cost = data.draw(vectors(count, 0.0, 10.0))
    config = ExplorationConfig(
        floor=data.draw(st.floats(0.0, 0.2)),
        floor_spend_share=data.draw(st.floats(0.0, 1.0)),
    )
    activity = Activity(
        pulls=data.draw(vectors(count, 0.0, 20.0)),
        idle_s=data.draw(vectors(count, 0.0, 2e5)),
        look_spend_usd=data.draw(st.floats(0.0, 2.0)),
    )
    pmf = np.zeros(count)
    pmf[eligible] = argmax_pmf(mean[eligible], sd[eligible])
    found = explored(config, pmf, mean, sd, cost, eligible, activity)
    assert (found.floor >= 0.0).all()
    assert (found.floor <= config.floor).all()
    assert (found.floor[~eligible] == 0.0).all()
    assert found.floor @ cost <= config.floor_spend_share * (pmf @ cost) + 1e-12
    if found.look_arm >= 0:
        assert eligible[found.look_arm]
        assert cost[found.look_arm] + activity.look_spend_usd <= config.look_budget_usd_per_day
    mixed = mix(pmf, found)
    assert (mixed >= 0.0).all()
    assert abs(mixed.sum() - 1.0) < 1e-12
    assert (mixed[~eligible] == 0.0).all()
    kept = found.floor * (1.0 - found.look_probability)
    assert (mixed >= kept * (1.0 - 1e-12) - 1e-15).all()


@CUSTOM
@given(normals(), st.floats(0.0, 1.0, exclude_max=True))
def test_a_draw_always_has_a_chance(arms: tuple[FloatArray, FloatArray], uniform: float) -> None:
    pmf = argmax_pmf(*arms)
    assert pmf[draw(pmf, uniform)] > 0.0


ROWS = st.lists(
    st.tuples(vectors(3, -2.0, 2.0), st.floats(0.0, 1.0), st.floats(0.01, 1.0)),
    min_size=1,
    max_size=20,
)
PRIOR = Prior(mean=np.array([0.5, 0.0, 0.0]), precision=np.array([4.0, 100.0, 100.0]), noise=0.05)


@CUSTOM
@given(ROWS, st.data())
def test_any_order_and_any_retraction_ends_at_the_rows_that_are_left(
    rows: list[tuple[FloatArray, float, float]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    gone = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    posterior = from_sums(Sums.empty(3), PRIOR)
    for i in order:
        posterior = with_row(posterior, PRIOR, *rows[i])
    for i in gone:
        posterior = without_row(posterior, PRIOR, *rows[i])
    left = [row for i, row in enumerate(rows) if i not in gone]
    x = np.array([row[0] for row in left]).reshape(len(left), 3)
    y, w = (np.array([row[i] for row in left]) for i in (1, 2))
    expected = from_sums(Sums.of(x, y, w), PRIOR)
    np.testing.assert_allclose(posterior.mean, expected.mean, atol=1e-9)
    np.testing.assert_allclose(
        np.tril(posterior.covariance), np.tril(expected.covariance), atol=1e-9
    )


@CUSTOM
@given(st.integers(1, 40), st.integers(1, 6), st.floats(1e-6, 10.0), st.integers(0, 2**31))
def test_a_solved_price_keeps_the_window_within_reach_of_its_target(
    rows: int, arms: int, budget_usd: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    quality = rng.uniform(size=(rows, arms))
    cost = np.exp(rng.uniform(-6.0, 2.0, (rows, arms)))
    price = pacing.solved(pacing.empty_pacer(), quality, cost, budget_usd).price_of_dollar
    assert np.isfinite(price)
    assert price >= 0.0

    def mean_cost(at: float) -> float:
        chosen = (quality - at * cost).argmax(axis=1)
        return float(cost[np.arange(rows), chosen].mean())

    cheapest = float(cost.min(axis=1).mean())
    # A hair above the price the window is within target, if any price can bring it there.
    assert mean_cost(price * 1.005) <= max(budget_usd, cheapest * 1.05) * (1.0 + 1e-9)
    if price > 0.0:
        assert mean_cost(price * 0.995) >= min(budget_usd, cheapest) * (1.0 - 1e-9)


SIGNALS = st.lists(
    st.tuples(st.integers(0, 5), st.one_of(st.none(), st.floats(0.0, 1.0))), max_size=25
)


@CUSTOM
@given(SIGNALS)
def test_only_the_last_word_on_each_decision_counts(
    signals: list[tuple[int, float | None]],
) -> None:
    x = np.random.default_rng(0).normal(size=(6, 4))
    known: dict[int, float | None] = {}
    rows = []
    for seq, value in signals:
        before = known.get(seq)
        known[seq] = value
        if value != before:
            arm = PROBLEM.arms[seq % 3]
            rows.append(make_row(seq, arm, x[seq], reward=value, previous_reward=before))
    final = [
        make_row(seq, PROBLEM.arms[seq % 3], x[seq], reward=value)
        for seq, value in known.items()
        if value is not None
    ]
    one, other = folded(PROBLEM, POLICY, rows), folded(PROBLEM, POLICY, final)
    np.testing.assert_allclose(one.policy.means, other.policy.means, atol=1e-9)
    np.testing.assert_array_equal(one.rewards, other.rewards)


PAYLOAD = to_bytes(
    PROBLEM,
    POLICY,
    folded(
        PROBLEM,
        POLICY,
        [make_row(i, PROBLEM.arms[i % 3], np.full(4, i / 9), reward=0.5) for i in range(9)],
    ),
)


@settings(max_examples=300, **UNTIMED)
@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255), st.booleans())
def test_damage_anywhere_is_refused_or_harmless(place: int, flip: int, cut: bool) -> None:
    damaged = bytearray(PAYLOAD)
    damaged[place] ^= flip
    payload = bytes(damaged[:place] if cut else damaged)
    try:
        state = from_bytes(PROBLEM, POLICY, payload)
    except SnapshotError:
        return
    # What the archive's checksums do not cover is not of the state either.
    assert to_bytes(PROBLEM, POLICY, state) == PAYLOAD
