"""The learned state as a fold of the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_samples import folded, make_policy, make_problem, make_row, make_rows, policy_names

from bandit_router import effort, snapshot
from bandit_router.effort import Prices
from bandit_router.learner import log_rows
from bandit_router.learning import (
    FADE_EVERY,
    LearnedState,
    fold,
    init_state,
    predict,
    refit,
    with_solved_price,
)
from bandit_router.selection import context_of
from bandit_router.types import FloatArray, Observation

PROBLEM = make_problem()
POLICY = make_policy()
X = np.array([0.5, -1.0, 2.0, 0.1])


def assert_same(one: LearnedState, other: LearnedState, tolerance: float = 1e-9) -> None:
    """The same beliefs and the same counts, up to rounding."""
    for before, after in (
        (one.policy, other.policy),
        (one.effort.amount, other.effort.amount),
        (one.effort.latency, other.effort.latency),
    ):
        np.testing.assert_allclose(before.means, after.means, atol=tolerance)
        for arm, twin in zip(before.arms, after.arms, strict=True):
            np.testing.assert_allclose(
                np.tril(arm.covariance), np.tril(twin.covariance), atol=tolerance
            )
    np.testing.assert_allclose(one.pulls, other.pulls, atol=tolerance)
    np.testing.assert_allclose(one.rewards, other.rewards, atol=tolerance)


def test_a_row_of_an_unknown_arm_changes_nothing() -> None:
    state = folded(PROBLEM, POLICY, make_rows(PROBLEM, 10))
    row = make_row(11, "retired", X, reward=1.0, cost_usd=5.0, latency_s=1.0)
    assert fold(PROBLEM, POLICY, state, row) is state


def test_a_reward_moves_belief_and_an_outcome_moves_effort() -> None:
    cold = init_state(PROBLEM, POLICY)
    rewarded = fold(PROBLEM, POLICY, cold, make_row(0, "large", X, reward=1.0))
    assert rewarded.policy.means[1] @ np.r_[1.0, X] > 0.5
    assert rewarded.effort is cold.effort
    assert rewarded.rewards.tolist() == [0.0, 1.0, 0.0]
    assert rewarded.pulls.tolist() == [0.0, 0.0, 0.0]
    called = fold(PROBLEM, POLICY, cold, make_row(0, "large", X, cost_usd=0.5, latency_s=9.0))
    assert called.policy is cold.policy
    assert called.pulls.tolist() == [0.0, 1.0, 0.0]
    _, expected = predict(PROBLEM, POLICY, called, np.r_[1.0, X], 20.0)
    assert expected.cost_usd[1] > 100 * expected.cost_usd[0]
    assert expected.latency_s[1] > 2 * expected.latency_s[0]
    assert len(called.pacer.window) == 1


def test_folding_leaves_the_state_it_started_from() -> None:
    rows = make_rows(PROBLEM, 20)
    state = folded(PROBLEM, POLICY, rows[:10])
    before = snapshot.to_bytes(PROBLEM, POLICY, state)
    folded(PROBLEM, POLICY, rows[10:], state)
    assert snapshot.to_bytes(PROBLEM, POLICY, state) == before


@pytest.mark.parametrize("name", policy_names())
@pytest.mark.parametrize("half_life", [None, 50.0])
def test_the_same_rows_give_the_same_bytes(name: str, half_life: float | None) -> None:
    problem = make_problem(budget_usd=5e-4, half_life_decisions=half_life)
    policy = make_policy(name)
    rows = make_rows(problem, 150)
    whole = snapshot.to_bytes(problem, policy, folded(problem, policy, rows))
    assert whole == snapshot.to_bytes(problem, policy, folded(problem, policy, rows))
    # And so does stopping on the way: from a snapshot, the next process arrives at the same.
    half = snapshot.to_bytes(problem, policy, folded(problem, policy, rows[:80]))
    resumed = folded(problem, policy, rows[80:], snapshot.from_bytes(problem, policy, half))
    assert snapshot.to_bytes(problem, policy, resumed) == whole


@pytest.mark.parametrize("half_life", [None, 40.0])
def test_late_revised_and_retracted_feedback_ends_where_the_final_value_alone_would(
    half_life: float | None,
) -> None:
    problem = make_problem(half_life_decisions=half_life)
    rng = np.random.default_rng(1)
    outcomes, journey, final = [], [], []
    for seq in range(200):
        x, arm = rng.normal(size=4), PROBLEM.arms[seq % 3]
        first, last = (float(value) for value in rng.uniform(size=2))
        outcomes.append(make_row(seq, arm, x, cost_usd=1e-3, latency_s=1.0))
        journey.append(make_row(seq, arm, x, reward=first))
        if seq % 4 == 0:
            journey.append(make_row(seq, arm, x, reward=None, previous_reward=first))
        elif seq % 4 == 1:
            journey.append(make_row(seq, arm, x, reward=last, previous_reward=first))
            final.append(make_row(seq, arm, x, reward=last))
        elif seq % 4 == 2:
            journey.append(make_row(seq, arm, x, reward=None, previous_reward=first))
            journey.append(make_row(seq, arm, x, reward=last))
            final.append(make_row(seq, arm, x, reward=last))
        else:
            final.append(make_row(seq, arm, x, reward=first))
    # Revisions come at any time after the first value: shuffle, but keep each decision's order.
    keys = rng.uniform(size=200)
    late = sorted(journey, key=lambda row: keys[row.decision_seq])
    assert_same(
        folded(problem, POLICY, [*outcomes, *late]),
        folded(problem, POLICY, [*outcomes, *final]),
        1e-8,
    )


@pytest.mark.parametrize("name", policy_names())
def test_a_reward_whose_weight_changes_counts_as_the_last_word_alone(name: str) -> None:
    policy = make_policy(name)
    rng = np.random.default_rng(3)
    journey, final = [], []
    for seq in range(60):
        x, arm = rng.normal(size=4), PROBLEM.arms[seq % 3]
        first, last = (float(value) for value in rng.uniform(size=2))
        light, heavy = (float(value) for value in rng.uniform(0.05, 2.0, size=2))
        journey.append(make_row(seq, arm, x, reward=first, weight=light))
        if seq % 3 == 0:
            journey.append(make_row(seq, arm, x, previous_reward=first, previous_weight=light))
            continue
        journey.append(
            make_row(
                seq,
                arm,
                x,
                reward=last,
                weight=heavy,
                previous_reward=first,
                previous_weight=light,
            )
        )
        final.append(make_row(seq, arm, x, reward=last, weight=heavy))
    one, other = folded(PROBLEM, policy, journey), folded(PROBLEM, policy, final)
    for z in rng.normal(size=(20, 5)):
        beliefs, twin = policy.beliefs(one.policy, z), policy.beliefs(other.policy, z)
        np.testing.assert_allclose(beliefs.mean, twin.mean, atol=1e-9)
        np.testing.assert_allclose(beliefs.sd, twin.sd, atol=1e-9)


def test_a_row_of_half_the_weight_counts_half_in_fold_and_refit() -> None:
    rows = [replace(row, weight=0.5) for row in make_rows(PROBLEM, 90)]
    state = folded(PROBLEM, POLICY, rows)
    assert [arm.sums.weight for arm in state.policy.arms] == [15.0, 15.0, 15.0]
    fitted = refit(PROBLEM, POLICY, state, log_rows(PROBLEM, rows))
    assert [arm.sums.weight for arm in fitted.policy.arms] == [15.0, 15.0, 15.0]
    # Only what was said of quality is less precise: bills are bills.
    assert [arm.sums.weight for arm in fitted.effort.amount.arms] == [30.0, 30.0, 30.0]


def test_credit_that_moves_to_the_model_that_answered_leaves_nothing_behind() -> None:
    moved = [
        make_row(0, "small", X, reward=0.9),
        make_row(0, "large", X, cost_usd=0.01, latency_s=2.0),
        make_row(0, "small", X, previous_reward=0.9),
        make_row(0, "large", X, reward=0.9),
    ]
    direct = [
        make_row(0, "large", X, cost_usd=0.01, latency_s=2.0),
        make_row(0, "large", X, reward=0.9),
    ]
    assert_same(folded(PROBLEM, POLICY, moved), folded(PROBLEM, POLICY, direct))


def test_an_old_row_counts_half_after_a_half_life() -> None:
    problem = make_problem(half_life_decisions=100.0)
    state = folded(
        problem,
        POLICY,
        [make_row(0, "small", X, reward=1.0), make_row(100, "large", X, reward=1.0)],
    )
    assert state.clock == 100
    weights = [arm.sums.weight for arm in state.policy.arms]
    assert weights == pytest.approx([0.5, 1.0, 0.0])
    # Feedback that comes late is as old as its decision.
    state = fold(problem, POLICY, state, make_row(0, "local", X, reward=1.0))
    assert state.policy.arms[2].sums.weight == pytest.approx(0.5)


def test_between_fadings_newer_rows_weigh_more_so_that_ages_stay_true() -> None:
    problem = make_problem(half_life_decisions=10.0)
    gap = FADE_EVERY - 1
    state = folded(
        problem,
        POLICY,
        [make_row(1, "small", X, reward=1.0), make_row(gap, "large", X, reward=1.0)],
    )
    old, new = (state.policy.arms[k].sums.weight for k in (0, 1))
    assert old / new == pytest.approx(0.5 ** ((gap - 1) / 10.0))


def test_forgetting_by_row_and_refitting_agree_on_the_weights() -> None:
    problem = make_problem(half_life_decisions=30.0)
    rows = make_rows(problem, 300)
    state = folded(problem, POLICY, rows)
    fitted = refit(problem, POLICY, state, log_rows(problem, rows))
    scale = state.weight(state.clock, fitted.clock)
    for arm, twin in zip(state.policy.arms, fitted.policy.arms, strict=True):
        assert arm.sums.weight * scale == pytest.approx(twin.sums.weight, rel=1e-9)


def test_a_refit_needs_nothing_but_the_rows() -> None:
    rows = make_rows(PROBLEM, 200)
    lined = log_rows(PROBLEM, rows)
    from_cold = refit(PROBLEM, POLICY, init_state(PROBLEM, POLICY), lined)
    from_warm = refit(PROBLEM, POLICY, folded(PROBLEM, POLICY, rows), lined)
    assert_same(from_cold, from_warm)
    np.testing.assert_array_equal(from_cold.basis.matrix, from_warm.basis.matrix)
    assert from_cold.clock == 199
    np.testing.assert_array_equal(from_cold.pulls, [67.0, 67.0, 66.0])
    np.testing.assert_array_equal(from_cold.rewards, [67.0, 67.0, 66.0])


def test_a_refit_knows_the_arms_apart_and_their_cost() -> None:
    state = refit(
        PROBLEM,
        POLICY,
        init_state(PROBLEM, POLICY),
        log_rows(PROBLEM, make_rows(PROBLEM, 600)),
    )
    z = np.zeros(state.basis.dimension)
    z[0] = 1.0
    beliefs, expected = predict(PROBLEM, POLICY, state, z, 20.0)
    np.testing.assert_allclose(beliefs.mean, [0.5, 0.6, 0.7], atol=0.02)
    usd = 1e-4 * 3.0 ** np.arange(3) * np.exp(0.3**2 / 2)
    np.testing.assert_allclose(expected.cost_usd, usd, rtol=0.1)
    np.testing.assert_allclose(expected.latency_s, [0.5, 1.5, 2.5], rtol=0.02)


def test_rows_after_a_refit_fold_onto_it() -> None:
    rows = make_rows(PROBLEM, 200)
    half = refit(PROBLEM, POLICY, init_state(PROBLEM, POLICY), log_rows(PROBLEM, rows[:100]))
    state = folded(PROBLEM, POLICY, rows[100:], half)
    assert state.rewards.sum() == 200.0
    assert state.pulls.sum() == 200.0
    weights = sum(arm.sums.weight for arm in state.policy.arms)
    assert weights == pytest.approx(200.0)


def test_what_is_not_known_is_left_out_of_a_refit() -> None:
    rows = [
        make_row(0, "small", X, reward=0.5),
        make_row(1, "small", -X, cost_usd=0.01),
        make_row(2, "large", 2 * X, latency_s=1.0, cost_usd=0.0),
        make_row(3, "large", X, latency_s=0.0, cost_usd=0.02),
        make_row(4, "retired", X, reward=1.0),
    ]
    state = refit(PROBLEM, POLICY, init_state(PROBLEM, POLICY), log_rows(PROBLEM, rows))
    assert [arm.sums.weight for arm in state.policy.arms] == [1.0, 0.0, 0.0]
    assert [arm.sums.weight for arm in state.effort.amount.arms] == [1.0, 2.0, 0.0]
    assert [arm.sums.weight for arm in state.effort.latency.arms] == [0.0, 1.0, 0.0]
    for bank in (state.policy, state.effort.amount, state.effort.latency):
        assert np.isfinite(bank.means).all()


def metered() -> Prices:
    return Prices(np.full(3, 1e-6), np.array([1e-6, 4e-6, 0.0]), np.zeros(3))


def test_a_price_change_takes_effect_at_once_for_metered_models() -> None:
    problem = make_problem(prices=metered())
    state = folded(problem, POLICY, make_rows(problem, 90))
    z = np.r_[1.0, np.zeros(4)]
    _, before = predict(problem, POLICY, state, z, 0.0)
    doubled = replace(
        problem, prices=replace(problem.prices, output_usd=problem.prices.output_usd * 2)
    )
    _, after = predict(doubled, POLICY, state, z, 0.0)
    np.testing.assert_allclose(after.cost_usd[:2], 2 * before.cost_usd[:2])
    assert after.cost_usd[2] == before.cost_usd[2]
    # Fifty output tokens each time.
    np.testing.assert_allclose(before.cost_usd[:2], [50e-6, 200e-6], rtol=0.1)


def test_without_a_budget_there_is_no_price_of_a_dollar() -> None:
    state = folded(PROBLEM, POLICY, make_rows(PROBLEM, 100))
    assert state.pacer.price_of_dollar == 0.0
    assert with_solved_price(PROBLEM, POLICY, state) is state


def test_a_tight_budget_has_a_price_and_keeps_it_in_the_account() -> None:
    problem = make_problem(budget_usd=2e-4)
    rows = make_rows(problem, 100)
    state = folded(problem, POLICY, rows)
    spent = sum(row.cost_usd or 0.0 for row in rows)
    assert state.pacer.account_usd == pytest.approx(100 * 2e-4 - spent)
    assert state.pacer.price_of_dollar > 0.0


def test_models_that_are_never_chosen_do_not_count_in_the_price() -> None:
    # A last resort that is free and good would make any budget look loose.
    rows: list[Observation] = []
    for row in make_rows(PROBLEM, 200):
        free = row.arm == "local"
        rows.append(replace(row, cost_usd=0.0, reward=1.0) if free else row)

    def price(routable: FloatArray) -> float:
        problem = make_problem(budget_usd=1.5e-4, routable=routable)
        return folded(problem, POLICY, rows).pacer.price_of_dollar

    everyone = np.array([True, True, True])
    assert price(np.array([True, True, False])) > 10.0 * max(price(everyone), 1.0)


def test_a_call_without_a_bill_still_teaches_its_seconds() -> None:
    cold = init_state(PROBLEM, POLICY)
    state = fold(PROBLEM, POLICY, cold, make_row(0, "small", X, latency_s=30.0))
    z = np.r_[1.0, X]
    assert effort.predicted_latency_s(state.effort, z)[0] > 10.0
    assert state.pulls[0] == 1.0


def test_what_a_fit_did_not_reach_back_to_is_past_revising() -> None:
    problem, policy = make_problem(), make_policy()
    rows = make_rows(problem, 60)
    state = folded(problem, policy, rows)
    fitted = refit(problem, policy, state, log_rows(problem, rows[30:]), since=30)
    gone = replace(rows[12], reward=None, previous_reward=rows[12].reward, cost_usd=None)
    gone = replace(gone, latency_s=None)
    assert fold(problem, policy, fitted, gone) is fitted
    held = replace(rows[42], reward=None, previous_reward=rows[42].reward, cost_usd=None)
    after = fold(problem, policy, fitted, replace(held, latency_s=None))
    assert after.rewards.sum() == fitted.rewards.sum() - 1


def test_list_prices_hold_the_budget_from_the_first_request_on() -> None:
    prices = Prices(
        input_usd=np.array([1e-7, 3e-6, 1.5e-5]),
        output_usd=np.array([4e-7, 1.5e-5, 7.5e-5]),
        second_usd=np.zeros(3),
    )
    spent = []
    for budget_usd in (2e-4, 3e-3, 1.0):
        problem = make_problem(prices=prices, budget_usd=budget_usd)
        state = init_state(problem, POLICY)
        z = np.zeros(state.basis.dimension)
        z[0] = 1.0
        beliefs, expected = predict(problem, POLICY, state, z, 200.0)
        penalty = state.pacer.price_of_dollar * expected.cost_usd
        context = context_of(problem, state, z, X, beliefs, penalty, expected)
        pmf = POLICY.pmf(state.policy, context, np.ones(3, dtype=np.bool_))
        spent.append(float(pmf @ expected.cost_usd))
    assert spent[0] == pytest.approx(2e-4, rel=0.1)
    assert spent[1] == pytest.approx(3e-3, rel=0.1)
    assert spent[2] < 0.02
    assert init_state(make_problem(budget_usd=2e-4), POLICY).pacer.price_of_dollar == 0.0
