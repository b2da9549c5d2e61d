"""Models that come and go in the learned state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_samples import folded, make_policy, make_problem, make_rows, policy_names

from bandit_router import snapshot
from bandit_router.config import ExplorationConfig
from bandit_router.effort import Prices
from bandit_router.known_rows import INHERITED_ROWS, INHERITED_SHARE
from bandit_router.learner import log_rows
from bandit_router.learning import LearnedState, Problem, init_state, refit
from bandit_router.roster import with_arms
from bandit_router.selection import select

PROBLEM = make_problem(budget_usd=3e-4)
POLICY = make_policy()


def learned(policy_name: str = "thompson", problem: Problem = PROBLEM) -> LearnedState:
    policy, rows = make_policy(policy_name), make_rows(problem, 300)
    state = refit(problem, policy, init_state(problem, policy), log_rows(problem, rows[:240]))
    return folded(problem, policy, rows[240:], state)


def changed(*arms: str, **changes: object) -> Problem:
    return make_problem(arms, budget_usd=3e-4, **changes)


@pytest.mark.parametrize("name", policy_names())
def test_an_arm_that_stays_keeps_everything_to_the_bit(name: str) -> None:
    policy, state = make_policy(name), learned(name)
    new = changed("fresh", "local", "small")
    after = with_arms(policy, state, PROBLEM, new)
    for old, now in ((2, 1), (0, 2)):
        for before, bank in (
            (state.effort.amount, after.effort.amount),
            (state.effort.latency, after.effort.latency),
        ):
            assert bank.arms[now] is before.arms[old]
        assert after.effort.smearing[now] == state.effort.smearing[old]
        assert after.pulls[now] == state.pulls[old]
        assert after.rewards[now] == state.rewards[old]
    for z in np.random.default_rng(0).normal(size=(20, state.basis.dimension)):
        before, beliefs = policy.beliefs(state.policy, z), policy.beliefs(after.policy, z)
        # The heads are the same; a product with other rows beside them may round otherwise.
        np.testing.assert_allclose(beliefs.mean[1:], before.mean[[2, 0]], rtol=1e-13, atol=1e-15)
        assert beliefs.sd[1:].tolist() == before.sd[[2, 0]].tolist()
    assert after.pulls[0] == after.rewards[0] == 0.0
    assert after.basis is state.basis


@pytest.mark.parametrize("name", policy_names())
def test_the_state_goes_on_and_travels(name: str) -> None:
    policy, new = make_policy(name), changed("fresh", "local", "small")
    after = with_arms(policy, learned(name), PROBLEM, new)
    after = folded(new, policy, make_rows(new, 90), after)
    payload = snapshot.to_bytes(new, policy, after)
    assert snapshot.to_bytes(new, policy, snapshot.from_bytes(new, policy, payload)) == payload
    chosen = select(
        new, policy, after, np.ones(4), 20.0, np.ones(3, dtype=np.bool_), ExplorationConfig(), None
    )
    assert chosen.pmf.sum() == pytest.approx(1.0)


def test_there_and_back_is_as_if_nothing_had_been() -> None:
    state, wider = learned(), changed("small", "large", "local", "fresh")
    back = with_arms(POLICY, with_arms(POLICY, state, PROBLEM, wider), wider, PROBLEM)
    assert snapshot.to_bytes(PROBLEM, POLICY, back) == snapshot.to_bytes(
        PROBLEM, POLICY, with_arms(POLICY, state, PROBLEM, PROBLEM)
    )


def test_the_state_it_started_from_is_left_as_it_was() -> None:
    state = learned()
    before = snapshot.to_bytes(PROBLEM, POLICY, state)
    with_arms(POLICY, state, PROBLEM, changed("local"))
    assert snapshot.to_bytes(PROBLEM, POLICY, state) == before


@pytest.mark.parametrize("name", policy_names())
def test_a_new_version_starts_from_a_weakened_posterior(name: str) -> None:
    policy, state = make_policy(name), learned(name)
    new = replace(changed("small", "large-2"), predecessors=("", "large"))
    after = with_arms(policy, state, PROBLEM, new)
    z = np.r_[1.0, np.zeros(state.basis.dimension - 1)]
    before, beliefs = policy.beliefs(state.policy, z), policy.beliefs(after.policy, z)
    assert beliefs.mean[1] == pytest.approx(before.mean[1], abs=0.05)
    assert beliefs.sd[1] > before.sd[1]
    assert after.rewards.tolist() == [state.rewards[0], 0.0]


def test_a_new_version_inherits_a_bounded_number_of_rows() -> None:
    new = replace(changed("large-2"), predecessors=("large",))
    long = folded(PROBLEM, POLICY, make_rows(PROBLEM, 3000))
    short = folded(PROBLEM, POLICY, make_rows(PROBLEM, 30))
    weights = [
        with_arms(POLICY, state, PROBLEM, new).policy.arms[0].sums.weight for state in (long, short)
    ]
    assert weights == pytest.approx([INHERITED_ROWS, INHERITED_SHARE * 10.0])


def test_a_fit_from_the_log_lets_a_new_version_inherit_as_much() -> None:
    rows = make_rows(PROBLEM, 300)
    new = replace(changed("small", "large-2"), predecessors=("", "large"))
    fitted = refit(new, POLICY, init_state(new, POLICY), log_rows(new, rows))
    assert fitted.policy.arms[1].sums.weight == pytest.approx(INHERITED_ROWS)
    assert fitted.policy.arms[0].sums.weight == 100.0
    assert fitted.rewards.tolist() == [100.0, 0.0]
    assert fitted.pulls.tolist() == [100.0, 0.0]
    z = np.r_[1.0, np.zeros(fitted.basis.dimension - 1)]
    assert POLICY.beliefs(fitted.policy, z).mean[1] == pytest.approx(0.6, abs=0.03)


def test_a_version_beside_its_predecessor_leaves_it_alone() -> None:
    state = learned()
    new = replace(changed("large", "large-2"), predecessors=("", "large"))
    after = with_arms(POLICY, state, PROBLEM, new)
    assert after.policy.arms[0] is state.policy.arms[1]
    assert 0.0 < after.policy.arms[1].sums.weight < state.policy.arms[1].sums.weight


def test_a_name_that_is_known_is_no_new_version() -> None:
    new = replace(changed("small", "large"), predecessors=("", "small"))
    state = learned()
    assert with_arms(POLICY, state, PROBLEM, new).policy.arms[1] is state.policy.arms[1]


def test_where_the_unit_of_cost_changes_only_cost_is_learned_anew() -> None:
    state = learned()
    priced = replace(PROBLEM, prices=Prices(np.zeros(3), np.array([0.0, 1e-6, 0.0]), np.zeros(3)))
    after = with_arms(POLICY, state, PROBLEM, priced)
    assert after.effort.amount.arms[1].sums.weight == 0.0
    assert after.effort.typical[1] == priced.typical_amount[1]
    assert after.effort.amount.arms[0] is state.effort.amount.arms[0]
    assert after.effort.latency.arms[1] is state.effort.latency.arms[1]
    assert after.policy.arms[1] is state.policy.arms[1]


def test_the_price_of_a_dollar_is_that_of_the_new_frontier() -> None:
    state = learned()
    assert state.pacer.price_of_dollar > 0.0
    cheap = with_arms(POLICY, state, PROBLEM, changed("small"))
    assert cheap.pacer.price_of_dollar == 0.0
    assert cheap.pacer.account_usd == state.pacer.account_usd
