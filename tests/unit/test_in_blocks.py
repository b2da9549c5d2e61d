"""Many requests at once: each function for many gives what its counterpart gives for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_samples import folded, make_policy, make_problem, make_rows
from hypothesis import given
from hypothesis import strategies as st

from bandit_router import alarms
from bandit_router.basis import coordinates_of_rows
from bandit_router.bets import STAKES, Sides, settle, settle_rows
from bandit_router.choice import draw, draw_rows, mix, mix_rows
from bandit_router.config import ExplorationConfig
from bandit_router.exploration import explored, floors_of_rows
from bandit_router.in_blocks import fold_rows, select_rows
from bandit_router.learner import log_rows
from bandit_router.learning import LearnedState, fold, refit
from bandit_router.pmf import argmax_pmf, argmax_pmf_of_rows
from bandit_router.policies.base import InBlocks
from bandit_router.posterior import Posterior, Prior, Sums, from_sums, with_row, with_rows
from bandit_router.selection import select
from bandit_router.types import Exploration, FloatArray
from simulations import replay_run as replaying
from simulations.replay import replay
from simulations.world.traffic import world_problem
from simulations.world.worlds import eight

PROBLEM = make_problem(budget_usd=3e-4)
POLICY = make_policy()


def by_many() -> InBlocks[object]:
    assert isinstance(POLICY, InBlocks)
    return POLICY


def learned(rows: int = 60) -> LearnedState:
    """A state with a history and coordinates of its own."""
    before = make_rows(PROBLEM, rows)
    return refit(PROBLEM, POLICY, folded(PROBLEM, POLICY, before), log_rows(PROBLEM, before))


@pytest.mark.parametrize("stale", [0, 63, 64, 70])
@pytest.mark.parametrize("count", [1, 2, 15, 16, 40, 130])
def test_rows_at_once_are_row_after_row(count: int, stale: int) -> None:
    rng = np.random.default_rng(count)
    prior = Prior(mean=rng.normal(size=5), precision=rng.uniform(0.5, 2.0, 5), noise=0.2)
    one: Posterior = from_sums(Sums.empty(5), prior)
    for _ in range(7):
        one = with_row(one, prior, rng.normal(size=5), rng.normal(), 1.0)
    one = many = replace(one, stale=stale)
    x, y, w = rng.normal(size=(count, 5)), rng.normal(size=count), rng.uniform(0.1, 1.0, count)
    for row in zip(x, y.tolist(), w.tolist(), strict=True):
        one = with_row(one, prior, *row)
    many = with_rows(many, prior, x, y, w)
    exact = from_sums(many.sums, prior)
    np.testing.assert_allclose(many.mean, one.mean, atol=1e-10)
    np.testing.assert_allclose(many.covariance, one.covariance, atol=1e-10)
    np.testing.assert_allclose(many.covariance, exact.covariance, atol=1e-10)
    np.testing.assert_array_equal(many.covariance, many.covariance.T)
    np.testing.assert_allclose(np.tril(many.sums.gram), np.tril(one.sums.gram), atol=1e-10)
    for name in ("square", "total", "weight"):
        assert getattr(many.sums, name) == pytest.approx(getattr(one.sums, name))


@pytest.mark.parametrize("arms", [1, 2, 3, 8])
def test_pmfs_of_rows_are_each_rows_own(arms: int) -> None:
    rng = np.random.default_rng(arms)
    mean = 0.7 + rng.uniform(-0.05, 0.05, (200, arms))
    # Some rows need the grid of quantiles, and some sds are zero.
    sd = np.exp(rng.uniform(np.log(1e-4), np.log(0.5), (200, arms)))
    sd[:5] = 0.0
    eligible = rng.random((200, arms)) < 0.8
    eligible[:, 0] |= ~eligible.any(axis=1)
    pmf = argmax_pmf_of_rows(mean, sd, eligible)
    for row, may, m, s in zip(pmf, eligible, mean, sd, strict=True):
        own = np.zeros(arms)
        own[may] = argmax_pmf(m[may], s[may])
        # Two that may be chosen have a closed form; a shared grid reaches farther.
        np.testing.assert_allclose(row, own, atol=1e-4)
    assert not pmf[~eligible].any()


def test_floors_and_mixtures_of_rows_are_each_rows_own() -> None:
    rng = np.random.default_rng(3)
    pmf = rng.dirichlet(np.ones(4), 100)
    utility, sd = rng.normal(0.5, 0.1, (100, 4)), rng.uniform(0.0, 0.05, (100, 4))
    cost = np.exp(rng.normal(-8.0, 2.0, (100, 4))) * (rng.random((100, 4)) > 0.1)
    eligible = rng.random((100, 4)) < 0.7
    eligible[:, 0] |= ~eligible.any(axis=1)
    for config in (ExplorationConfig(), ExplorationConfig(enabled=False)):
        floors = floors_of_rows(config, pmf, utility, sd, cost, eligible, 1e-2)
        mixed = mix_rows(pmf, floors)
        for i in range(100):
            own = explored(
                config, pmf[i], utility[i], sd[i], cost[i], eligible[i], None, dearest_usd=1e-2
            )
            np.testing.assert_allclose(floors[i], own.floor, rtol=1e-12)
            np.testing.assert_allclose(mixed[i], mix(pmf[i], own), rtol=1e-12)
    assert (floors == 0.0).all()


@given(st.lists(st.floats(0.0, 0.999), min_size=1, max_size=8))
def test_draws_of_rows_are_each_rows_own(uniforms: list[float]) -> None:
    rng = np.random.default_rng(len(uniforms))
    pmf = rng.dirichlet(np.ones(5), len(uniforms)) * (rng.random((len(uniforms), 5)) > 0.3)
    pmf[:, 2] += 0.1
    pmf = mix_rows(pmf, np.zeros_like(pmf))
    drawn = draw_rows(pmf, np.array(uniforms))
    for row, uniform, arm in zip(pmf, uniforms, drawn.tolist(), strict=True):
        assert arm == draw(row, uniform)


@given(st.lists(st.floats(-1.0, 1.5), min_size=1, max_size=40), st.integers(0, 20))
def test_bets_settled_together_are_bets_settled_in_turn(gains: list[float], before: int) -> None:
    rng = np.random.default_rng(before)
    capital = np.exp(rng.normal(0.0, 1.0, (2, len(STAKES))))
    runs = rng.integers(0, 9, (2, len(STAKES), 2)).astype(np.float64)
    own, run = capital.tolist(), runs.tolist()
    sides: list[Sides] = [((g,) * len(STAKES), (-g / 2.0,) * len(STAKES)) for g in gains]
    most = max(max(settle(own, run, side, 100 + i)) for i, side in enumerate(sides))
    reached = settle_rows(capital, runs, np.array(sides), 100 + np.arange(len(gains)))
    np.testing.assert_allclose(capital, own, rtol=1e-9)
    # Whether a capital of one up to rounding restarts is rounding's to say.
    clear = (np.abs(np.log(capital)) > 1e-9).all() and not any(abs(g) < 1e-9 for g in gains)
    if clear:
        np.testing.assert_array_equal(runs[..., 1] >= 1.0, np.array(run)[..., 1] >= 1.0)
    assert reached == pytest.approx(most, rel=1e-9)


def test_selections_of_rows_are_each_requests_own() -> None:
    state = learned()
    features = np.random.default_rng(5).normal(size=(30, 4))
    z = coordinates_of_rows(state.basis, features)
    eligible = np.ones((30, 3), dtype=np.bool_)
    eligible[::3, 1] = False
    tokens = np.arange(30.0)
    config = ExplorationConfig()
    pmf, prediction = select_rows(PROBLEM, by_many(), state, z, tokens, eligible, config)
    for i in range(30):
        own = select(
            PROBLEM, POLICY, state, features[i], float(tokens[i]), eligible[i], config, None
        )
        np.testing.assert_allclose(pmf[i], own.pmf, atol=1e-5)
        for name in ("quality", "quality_sd", "cost_usd", "latency_s"):
            np.testing.assert_allclose(
                getattr(prediction, name)[i], getattr(own.prediction, name), rtol=1e-9
            )


@pytest.mark.parametrize("half_life", [None, 40.0])
def test_rows_folded_together_are_rows_folded_in_turn(half_life: float | None) -> None:
    problem = replace(PROBLEM, half_life_decisions=half_life)
    state = learned()
    rows = [
        replace(row, decision_seq=60 + i, reward=None if i % 7 == 3 else row.reward)
        for i, row in enumerate(make_rows(PROBLEM, 25, seed=9))
    ]
    lined = log_rows(problem, rows)
    z = coordinates_of_rows(state.basis, lined.features)
    together = fold_rows(problem, by_many(), state, lined, z)
    in_turn = state
    for row in rows:
        in_turn = fold(problem, POLICY, in_turn, row)
    assert together is not None
    for one, other in (
        (together.policy, in_turn.policy),
        (together.effort.amount, in_turn.effort.amount),
        (together.effort.latency, in_turn.effort.latency),
    ):
        np.testing.assert_allclose(one.means, other.means, atol=1e-9)
    np.testing.assert_array_equal(together.pulls, in_turn.pulls)
    np.testing.assert_array_equal(together.rewards, in_turn.rewards)
    np.testing.assert_array_equal(together.watch.rows, in_turn.watch.rows)
    np.testing.assert_array_equal(together.watch.latest, in_turn.watch.latest)
    assert together.pacer.account_usd == pytest.approx(in_turn.pacer.account_usd)
    assert together.pacer.paid == in_turn.pacer.paid
    np.testing.assert_allclose(together.pacer.window, in_turn.pacer.window)
    assert together.pacer.price_of_dollar != state.pacer.price_of_dollar


def test_rows_of_watched_arms_are_not_folded_together() -> None:
    state = learned()
    rows = [replace(row, decision_seq=60 + i) for i, row in enumerate(make_rows(PROBLEM, 8))]
    lined = log_rows(PROBLEM, rows)
    z = coordinates_of_rows(state.basis, lined.features)
    assert fold_rows(PROBLEM, by_many(), state, lined, z) is not None
    raised = state.watch.raised_at.copy()
    raised[1, alarms.QUALITY] = state.pacer.paid - 5.0
    watched = replace(state, watch=replace(state.watch, raised_at=raised))
    assert fold_rows(PROBLEM, by_many(), watched, lined, z) is None


def test_an_alarm_among_the_rows_leaves_them_to_be_folded_in_turn() -> None:
    state = learned(300)
    rows = [
        replace(row, decision_seq=300 + i, reward=0.0)
        for i, row in enumerate(make_rows(PROBLEM, 90))
    ]
    lined = log_rows(PROBLEM, rows)
    z = coordinates_of_rows(state.basis, lined.features)
    assert fold_rows(PROBLEM, by_many(), state, lined, z) is None
    assert folded(PROBLEM, POLICY, rows, state).watch.raised_at.max() >= 0.0


def test_a_long_replay_in_blocks_learns_what_one_by_one_learns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = eight(12)
    rng = np.random.default_rng(0)
    contexts = world.contexts(500, rng)
    matrix = world.matrix(contexts, rng)
    order = rng.integers(0, 500, 2_500)

    def rewards(alone_until: int) -> tuple[FloatArray, FloatArray]:
        monkeypatch.setattr(replaying, "ALONE_UNTIL", alone_until)
        monkeypatch.setattr(replaying, "MOST_SHARE_AT_ONCE", 0.02)
        trace, state = replay(
            matrix,
            contexts.features,
            order,
            world_problem(world, None),
            POLICY,
            ExplorationConfig(),
            np.random.default_rng(1),
            record=True,
        )
        assert state.pulls.sum() == order.size
        assert trace.records is not None
        np.testing.assert_allclose(
            trace.records.pmf[np.arange(order.size), trace.arm], trace.propensity
        )
        np.testing.assert_allclose(trace.records.pmf.sum(axis=1), 1.0)
        return trace.reward, trace.arm

    together, arms = rewards(500)
    alone, others = rewards(10_000)
    # The same until the first block, and then as good.
    np.testing.assert_array_equal(arms[:500], others[:500])
    assert together.mean() == pytest.approx(alone.mean(), abs=0.01)


def test_an_exploration_of_nothing_changes_no_row() -> None:
    pmf = np.array([[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_array_equal(mix_rows(pmf, np.zeros((2, 2))), pmf)
    np.testing.assert_array_equal(mix(pmf[0], Exploration(np.zeros(2))), pmf[0])
