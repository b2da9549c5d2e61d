"""Predicted output, dollars and seconds."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router import effort
from bandit_router.effort import COLD_DOLLARS, COLD_SECONDS, COLD_TOKENS, EffortState, Prices
from bandit_router.known_rows import no_rows
from bandit_router.policies.base import Rows
from bandit_router.types import FloatArray

# A metered model, one billed in dollars only, and a local one billed by the second.
PRICES = Prices(
    input_usd=np.array([1e-6, 0.0, 0.0]),
    output_usd=np.array([4e-6, 0.0, 0.0]),
    second_usd=np.array([0.0, 0.0, 1e-4]),
)
BIAS = np.array([1.0])


def test_dollars_of_a_call_worked_by_hand() -> None:
    amount, latency_s = np.array([500.0, 0.002, 0.0003]), np.array([2.0, 1.0, 3.0])
    # 1,000 × 1e-6 + 500 × 4e-6; the others' amounts are dollars, seconds included.
    np.testing.assert_allclose(
        effort.cost_usd(PRICES, 1000.0, amount, latency_s), [0.003, 0.002, 0.0003], rtol=1e-12
    )


def test_a_metered_model_that_also_costs_by_the_second_pays_both() -> None:
    prices = Prices(np.array([1e-6]), np.array([4e-6]), np.array([1e-3]))
    cost = effort.cost_usd(prices, 1000.0, np.array([500.0]), np.array([2.0]))
    np.testing.assert_allclose(cost, [0.005], rtol=1e-12)


def test_a_bill_in_dollars_already_holds_the_input() -> None:
    prices = Prices(np.array([1e-6]), np.array([0.0]), np.array([0.0]))
    cost = effort.cost_usd(prices, 1000.0, np.array([0.001]), np.array([1.0]))
    np.testing.assert_allclose(cost, [0.001], rtol=1e-12)


def test_dollars_of_many_requests_at_once() -> None:
    amount, latency_s = np.full((2, 3), 100.0), np.ones((2, 3))
    cost = effort.cost_usd(PRICES, np.array([[10.0], [20.0]]), amount, latency_s)
    for row, tokens in enumerate((10.0, 20.0)):
        np.testing.assert_allclose(
            cost[row], effort.cost_usd(PRICES, tokens, amount[row], latency_s[row]), rtol=1e-12
        )


def test_metered_arms_are_those_with_a_price_per_output_token() -> None:
    np.testing.assert_array_equal(PRICES.metered, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(PRICES.unit_usd, [4e-6, 1.0, 1.0])


@pytest.mark.parametrize(
    ("arm", "tokens", "dollars", "amount"),
    [
        (0, 120, 0.3, 120.0),
        (0, 0, 0.3, 1.0),
        (0, None, 0.3, None),
        (1, 120, 0.3, 0.3),
        (1, None, 0.0, effort.LEAST_AMOUNT),
        (1, 120, None, None),
    ],
)
def test_what_an_outcome_reveals(
    arm: int, tokens: int | None, dollars: float | None, amount: float | None
) -> None:
    assert effort.observed_amount(PRICES, arm, tokens, dollars) == amount


def cold(typical: FloatArray) -> EffortState:
    return effort.empty_effort(typical.size, 1, typical)


@pytest.mark.parametrize("typical", [COLD_TOKENS, COLD_DOLLARS])
def test_before_any_call_the_typical_is_expected(typical: float) -> None:
    state = cold(np.full(2, typical))
    np.testing.assert_allclose(effort.predicted_amount(state, BIAS), np.full(2, typical))
    np.testing.assert_allclose(effort.predicted_latency_s(state, BIAS), np.full(2, COLD_SECONDS))


def test_dollars_of_one_arm_are_not_mistaken_for_tokens_of_another() -> None:
    typical = np.array([COLD_TOKENS, COLD_DOLLARS, COLD_DOLLARS])
    state = cold(typical)
    np.testing.assert_allclose(effort.predicted_amount(state, BIAS), typical)
    for arm, amount in ((0, 600.0), (1, 0.002)):
        for _ in range(200):
            state = effort.after_call(state, arm, BIAS, amount=amount, latency_s=1.0, weight=1.0)
    found = effort.predicted_amount(state, BIAS)
    np.testing.assert_allclose(found, [600.0, 0.002, COLD_DOLLARS], rtol=0.01)
    # After a fit, the arm never called is expected like the others, each in its own unit.
    rows = Rows(
        z=np.ones((40, 1)),
        arm=np.repeat([0, 1], 20),
        value=np.log(np.repeat([600.0, 0.002], 20)),
        weight=np.ones(40),
    )
    fitted = effort.refitted(rows, rows, no_rows(rows.z.shape[1]), np.zeros(1), typical)
    found = effort.predicted_amount(fitted, BIAS)
    np.testing.assert_allclose(found, [600.0, 0.002, 0.002], rtol=0.02)


def test_calls_pull_the_prediction_to_what_they_took() -> None:
    state = cold(np.full(2, COLD_TOKENS))
    for _ in range(50):
        state = effort.after_call(state, 1, BIAS, amount=40.0, latency_s=0.3, weight=1.0)
    amount, latency_s = (
        effort.predicted_amount(state, BIAS),
        effort.predicted_latency_s(state, BIAS),
    )
    assert amount[0] == pytest.approx(COLD_TOKENS)
    assert amount[1] == pytest.approx(40.0, rel=0.02)
    assert latency_s[0] == pytest.approx(COLD_SECONDS)
    assert latency_s[1] == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("latency_s", [None, 0.0, -1.0])
def test_what_was_not_measured_changes_nothing(latency_s: float | None) -> None:
    state = cold(np.full(2, COLD_TOKENS))
    after = effort.after_call(state, 0, BIAS, amount=None, latency_s=latency_s, weight=1.0)
    assert after is state


def log_normal_rows(count: int, spread: float, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 2))
    z[:, 0] = 1.0
    arm = rng.integers(0, 2, count)
    value = np.log(100.0) + arm * 1.0 + 0.5 * z[:, 1] + rng.normal(0.0, spread, count)
    return Rows(z=z, arm=arm, value=value, weight=np.ones(count))


def test_a_refit_learns_size_and_context_and_undoes_the_retransformation() -> None:
    rows = log_normal_rows(4000, spread=0.8)
    state = effort.refitted(
        rows, rows, no_rows(rows.z.shape[1]), np.array([0.0, 1.0]), np.full(2, COLD_TOKENS)
    )
    at = np.array([1.0, 1.0])
    # The mean of a log-normal lies exp(σ²/2) above its median.
    expected = 100.0 * np.exp(0.5) * np.array([1.0, np.e]) * np.exp(0.32)
    np.testing.assert_allclose(effort.predicted_amount(state, at), expected, rtol=0.08)
    # Seconds are predicted by their median.
    np.testing.assert_allclose(
        effort.predicted_latency_s(state, at), expected / np.exp(0.32), rtol=0.08
    )


def test_expected_amounts_add_up_to_what_was_seen() -> None:
    rows = log_normal_rows(2000, spread=1.0, seed=3)
    state = effort.refitted(
        rows, rows, no_rows(rows.z.shape[1]), np.array([0.0, 1.0]), np.full(2, COLD_TOKENS)
    )
    for k in range(2):
        mine = rows.arm == k
        predicted = effort.predicted_amount(state, rows.z[mine])[:, k].sum()
        assert predicted == pytest.approx(np.exp(rows.value[mine]).sum(), rel=0.02)


def test_an_arm_without_rows_is_expected_like_the_others() -> None:
    rows = log_normal_rows(500, spread=0.3)
    state = effort.refitted(
        rows, rows, no_rows(rows.z.shape[1]), np.array([0.0, 1.0]), np.full(3, COLD_TOKENS)
    )
    amount = effort.predicted_amount(state, np.array([1.0, 0.0]))
    assert amount[:2].min() < amount[2] < amount[:2].max()


def test_predictions_stay_finite_far_out() -> None:
    rows = log_normal_rows(500, spread=0.3)
    state = effort.refitted(
        rows, rows, no_rows(rows.z.shape[1]), np.array([0.0, 1.0]), np.full(2, COLD_TOKENS)
    )
    far = np.array([1.0, 1e6])
    assert np.isfinite(effort.predicted_amount(state, far)).all()
    assert np.isfinite(effort.predicted_latency_s(state, -far)).all()


def test_fading_leads_back_to_the_typical() -> None:
    state = effort.after_call(
        cold(np.full(2, COLD_TOKENS)), 0, BIAS, amount=5.0, latency_s=9.0, weight=1.0
    )
    faded = effort.faded(state, 1e-9)
    np.testing.assert_allclose(
        effort.predicted_amount(faded, BIAS), np.full(2, COLD_TOKENS), rtol=1e-6
    )
    np.testing.assert_allclose(
        effort.predicted_latency_s(faded, BIAS), np.full(2, COLD_SECONDS), rtol=1e-6
    )
