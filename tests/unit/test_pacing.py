"""The price of a dollar against a frontier whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit_router import pacing
from bandit_router.pacing import HORIZON, WINDOW, PacerState, empty_pacer, solved, target_usd
from bandit_router.types import FloatArray

# Ten requests, a model at $1 and one at $3 that is better by 0.1, 0.2 … 1.0. At λ the dear one
# is worth its two dollars where its gain exceeds 2λ.
GAIN = np.arange(1, 11) / 10.0
QUALITY = np.stack([np.full(10, 0.2), 0.2 + GAIN], axis=1)
COST = np.tile([1.0, 3.0], (10, 1))


def mean_cost(price_of_dollar: float, quality: FloatArray, cost: FloatArray) -> float:
    chosen = (quality - price_of_dollar * cost).argmax(axis=1)
    return float(cost[np.arange(len(cost)), chosen].mean())


@pytest.mark.parametrize(
    ("budget_usd", "price_of_dollar"),
    # $2 pays for five of ten: gains up to 0.5 must go, so λ = 0.5 / 2. $1.9 falls between four
    # and five, and only four are within it.
    [(2.8, 0.05), (2.0, 0.25), (1.9, 0.30), (1.8, 0.30), (1.2, 0.45)],
)
def test_the_price_solves_the_fluid_problem(budget_usd: float, price_of_dollar: float) -> None:
    found = solved(empty_pacer(), QUALITY, COST, budget_usd).price_of_dollar
    assert found == pytest.approx(price_of_dollar, rel=2e-3)


@pytest.mark.parametrize("budget_usd", [3.0, 3.5, 1e9])
def test_a_loose_budget_has_no_price(budget_usd: float) -> None:
    pacer = replace(empty_pacer(), price_of_dollar=7.0)
    assert solved(pacer, QUALITY, COST, budget_usd).price_of_dollar == 0.0


@pytest.mark.parametrize("budget_usd", [0.0, 0.5, 1.0])
def test_an_impossible_budget_makes_the_cheapest_the_choice_everywhere(budget_usd: float) -> None:
    price = solved(empty_pacer(), QUALITY, COST, budget_usd).price_of_dollar
    assert np.isfinite(price)
    assert mean_cost(price, QUALITY, COST) == 1.0


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 1e3])
def test_the_price_scales_with_the_currency(scale: float) -> None:
    found = solved(empty_pacer(), QUALITY, COST * scale, 2.0 * scale).price_of_dollar
    assert found == pytest.approx(0.25 / scale, rel=2e-3)


def test_models_that_cost_the_same_do_not_break_it() -> None:
    price = solved(empty_pacer(), QUALITY, np.ones((10, 2)), 0.5).price_of_dollar
    assert np.isfinite(price)
    price = solved(empty_pacer(), QUALITY, np.zeros((10, 2)), 0.0).price_of_dollar
    assert price == 0.0


def test_solving_changes_the_price_alone() -> None:
    pacer = PacerState((np.ones(2),), (5.0,), 0.25, 9.0, 17)
    found = solved(pacer, QUALITY, COST, 2.0)
    assert replace(found, price_of_dollar=9.0, steady=None) == pacer


def test_debt_lowers_the_target_and_surplus_raises_it() -> None:
    def target(account_usd: float) -> float:
        return target_usd(replace(empty_pacer(), account_usd=account_usd), 2.0)

    assert target(0.0) == 2.0
    assert target(-0.1 * HORIZON) == pytest.approx(1.9)
    assert target(0.3 * HORIZON) == pytest.approx(2.3)
    # However large the debt, the target neither turns negative nor rises again.
    assert 0.0 <= target(-1e9) <= target(-HORIZON) < 1.9
    owing = replace(empty_pacer(), account_usd=-0.2 * HORIZON)
    price = solved(owing, QUALITY, COST, 2.0).price_of_dollar
    assert price == pytest.approx(0.30, rel=2e-3)


def test_payments_are_booked_and_the_window_keeps_the_newest() -> None:
    pacer = empty_pacer()
    for i in range(WINDOW + 5):
        pacer = pacing.after_payment(pacer, np.array([1.0, i]), float(i), 3.0, 2.0)
    assert pacer.paid == WINDOW + 5
    assert pacer.account_usd == -(WINDOW + 5.0)
    assert len(pacer.window) == len(pacer.window_tokens) == WINDOW
    assert pacer.window[0][1] == pacer.window_tokens[0] == 5.0
    assert pacer.window[-1][1] == pacer.window_tokens[-1] == WINDOW + 4.0


def test_a_budget_that_does_not_bind_stores_no_surplus_and_still_pays_debts() -> None:
    loose = replace(empty_pacer(), paid=9)
    pacer = pacing.after_payment(loose, np.ones(1), 0.0, 0.5, 2.0)
    assert pacer.account_usd == 0.0
    owing = replace(loose, account_usd=-1.0)
    assert pacing.after_payment(owing, np.ones(1), 0.0, 1.5, 2.0).account_usd == -0.5
    assert pacing.after_payment(owing, np.ones(1), 0.0, 0.5, 2.0).account_usd == 0.0
    assert pacing.after_payment(owing, np.ones(1), 0.0, 3.0, 2.0).account_usd == -2.0
    binding = replace(loose, price_of_dollar=1.0)
    assert pacing.after_payment(binding, np.ones(1), 0.0, 0.5, 2.0).account_usd == 1.5


def test_a_small_account_moves_the_price_little() -> None:
    def price(account_usd: float) -> float:
        pacer = replace(empty_pacer(), account_usd=account_usd)
        return solved(pacer, QUALITY, COST, 2.0).price_of_dollar

    even = price(0.0)
    assert even > 0.0
    for requests in (1.0, 10.0, 40.0):
        for sign in (-1.0, 1.0):
            moved = abs(np.log(price(sign * requests * 2.0) / even))
            assert moved <= requests / pacing.PATIENCE + 1e-9


def test_the_longer_a_budget_was_held_the_less_an_account_moves_the_price() -> None:
    def moved(paid: int) -> float:
        pacer = replace(empty_pacer(), account_usd=-60.0, paid=paid)
        even = solved(replace(pacer, account_usd=0.0), QUALITY, COST, 2.0).price_of_dollar
        return float(np.log(solved(pacer, QUALITY, COST, 2.0).price_of_dollar / even))

    # The price at which the next hundred requests pay all of it back.
    assert moved(5_000) == pytest.approx(np.log(0.4 / 0.25), rel=0.01)
    assert moved(20_000) == pytest.approx(30.0 / 200.0)
    assert moved(50_000) == moved(10**7) == pytest.approx(30.0 / 500.0)


def test_the_price_is_averaged_once_a_window_is_short_beside_what_was_seen() -> None:
    def after(paid: int, *budgets_usd: float) -> float:
        pacer = replace(empty_pacer(), account_usd=1e-9, paid=paid)
        for budget_usd in budgets_usd:
            pacer = solved(replace(pacer, paid=pacer.paid + 8), QUALITY, COST, budget_usd)
        assert pacer.steady is not None
        return pacer.steady.price

    assert after(0, 2.0, 1.2) == after(0, 1.2)
    pacer = replace(empty_pacer(), account_usd=1e-9)
    pacer = solved(pacer, QUALITY, COST, 2.0)
    assert pacer.steady is not None
    late = solved(replace(pacer, paid=20_000), QUALITY, COST, 1.2)
    later = solved(replace(late, paid=20_008), QUALITY, COST, 2.0)
    assert later.steady is not None
    assert late.steady is not None
    # Eight requests among a fifth of 20,008, the window left out.
    weight = 8.0 / (8.0 + 0.2 * 20_008 - WINDOW)
    expected = late.steady.price * (0.25 / late.steady.price) ** weight
    assert later.steady.price == pytest.approx(expected, rel=2e-3)
    assert pacing.unsteadied(later).steady is None
    assert pacing.without_surplus(later).steady is None


def test_a_window_with_more_hard_requests_than_usual_sends_none_of_them_to_the_weak_model() -> None:
    # Models alike on seven requests of ten, and far apart on three. The budget pays for just
    # these, so any price between is right, and chance decides what a window would pay for.
    rng = np.random.default_rng(5)
    count, early = 24_000, 16_000
    hard = rng.random(count) < 0.3
    quality = np.stack([np.full(count, 0.9), np.where(hard, 1.5, 0.9)], axis=1)
    quality += rng.normal(0.0, 0.01, quality.shape)
    cost, budget_usd = np.tile([3e-4, 3e-3], (count, 1)), 0.7 * 3e-4 + 0.3 * 3e-3
    pacer, spent, weak = empty_pacer(), 0.0, np.zeros(count, dtype=np.bool_)
    for i in range(count):
        chosen = int((quality[i] - pacer.price_of_dollar * cost[i]).argmax())
        weak[i] = chosen == 0
        spent += cost[i, chosen]
        pacer = pacing.after_payment(pacer, np.ones(1), 0.0, cost[i, chosen], budget_usd)
        if pacing.due(pacer, pacer.paid - 1):
            recent = slice(max(i + 1 - WINDOW, 0), i + 1)
            pacer = solved(pacer, quality[recent], cost[recent], budget_usd)
    later = np.arange(count) >= early
    # Without averages it was 4 to 7 %, since a window's share of hard requests has an sd of 2.6 %.
    assert weak[later & hard].mean() < 0.005
    perfect = float(np.where(hard, 3e-3, 3e-4).sum())
    assert spent == pytest.approx(perfect, rel=0.01)


def test_without_a_budget_nothing_is_booked() -> None:
    pacer = pacing.after_payment(empty_pacer(), np.ones(1), 3.0, 0.5, None)
    assert (pacer.account_usd, pacer.paid, len(pacer.window)) == (0.0, 1, 1)


def test_the_stand_ins_for_normals_are_normal_and_always_the_same() -> None:
    drawn = pacing.standard_normals(WINDOW, 8)
    np.testing.assert_array_equal(drawn, pacing.standard_normals(WINDOW, 8))
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(drawn.std(axis=0), 1.0, atol=0.03)
    off_diagonal = np.corrcoef(drawn.T) - np.eye(8)
    assert np.abs(off_diagonal).max() < 4.0 / np.sqrt(WINDOW)
    assert np.isfinite(pacing.standard_normals(WINDOW, 40)).all()


@pytest.mark.parametrize("budget_usd", [2e-4, 1e-3, 4e-3])
@pytest.mark.parametrize("seed", [0, 1])
def test_spend_in_a_closed_loop_ends_at_the_budget(budget_usd: float, seed: int) -> None:
    # Three models, the dearest 150 times the cheapest; what a call costs is known only on
    # average, and bills scatter by half.
    rng = np.random.default_rng(seed)
    count = 3000
    expected = np.array([1e-4, 1.5e-3, 1.5e-2]) * np.exp(rng.normal(0.0, 0.5, (count, 1)))
    quality = np.clip(rng.normal([0.6, 0.75, 0.8], 0.1, (count, 3)), 0.0, 1.0)
    bill = expected * np.exp(rng.normal(-0.125, 0.5, (count, 3)))
    pacer, spent, unbooked = empty_pacer(), 0.0, 0.0
    for i in range(count):
        before = pacer
        chosen = int((quality[i] - pacer.price_of_dollar * expected[i]).argmax())
        spent += bill[i, chosen]
        pacer = pacing.after_payment(pacer, np.ones(1), 0.0, float(bill[i, chosen]), budget_usd)
        gained = budget_usd - bill[i, chosen]
        if i and before.price_of_dollar == 0.0 and before.account_usd + gained > 0.0:
            # Surplus of a budget that does not bind.
            unbooked += gained - max(pacer.account_usd - before.account_usd, 0.0)
        if pacing.due(pacer, pacer.paid - 1):
            recent = slice(max(i + 1 - WINDOW, 0), i + 1)
            pacer = solved(pacer, quality[recent], expected[recent], budget_usd)
    assert spent / count == pytest.approx(budget_usd, rel=0.02)
    assert pacer.account_usd == pytest.approx(count * budget_usd - spent - unbooked)
