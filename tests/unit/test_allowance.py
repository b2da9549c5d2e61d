"""Budgets of a day and a session, spread over the requests that are still to come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandit_router.allowance import (
    Rate,
    looked_at,
    per_request_usd,
    stepped,
)
from bandit_router.choice import draw
from bandit_router.choosers import Choosers
from bandit_router.config import ExplorationConfig, ModelConfig, PolicyConfig, RouterConfig
from bandit_router.learning import Problem, fold, init_state
from bandit_router.policies import PolicyOptions
from bandit_router.selection import select
from bandit_router.types import RoutingRequest
from tests.core_samples import folded, make_policy, make_problem, make_row

DAY_S = 86_400.0
POLICY = make_policy()
PROBLEM = make_problem(("cheap", "dear"))
COST_USD = (1e-4, 4e-3)


def test_what_is_left_is_spread_over_what_is_to_come() -> None:
    assert per_request_usd(2.0, 400.0) == 0.005
    assert per_request_usd(2.0, 0.2) == 2.0
    assert per_request_usd(-1.0, 400.0) == 0.0
    assert stepped(0.0) == 0.0
    assert 0.95 * 0.005 < stepped(0.005) <= 0.005
    assert stepped(stepped(0.005) * 1.0001) == stepped(0.005)


def test_the_rate_follows_the_traffic_within_an_hour() -> None:
    rate = looked_at(None, 3_600, 0.0, 36_000.0)
    assert rate.per_s == pytest.approx(0.1)
    # An hour at one a second: about two thirds of the way there.
    rate = looked_at(rate, 7_200, 3_600.0, 39_600.0)
    assert rate.per_s == pytest.approx(1.0 - 0.9 * np.exp(-1.0))
    # A new day goes on as the one before ended; a single first request is no rate.
    assert looked_at(rate, 0, 3_700.0, 0.0) == Rate(rate.per_s, 0, 3_700.0)
    assert looked_at(None, 1, 0.0, 0.001).per_s < 0.01


def choosers(**of_policy: Any) -> tuple[Choosers, Problem]:
    models = tuple(
        ModelConfig(name=name, base_url="http://127.0.0.1:9/v1") for name in PROBLEM.arms
    )
    config = RouterConfig(models=models, policy=PolicyConfig(**of_policy))
    problem = replace(PROBLEM, budget_usd=config.policy.budget_usd_per_request)
    return Choosers(config, problem, POLICY, PolicyOptions()), problem


def one_day(budget_usd: float, weights: np.ndarray, seed: int) -> tuple[float, float, int]:
    """What a day of requests, so many an hour, costs under a strict wall: dollars, the share
    that the dear model had, and how many were refused."""
    rng = np.random.default_rng(seed)
    hours = np.repeat(np.arange(24), rng.poisson(weights))
    at_s = np.sort((hours + rng.random(hours.size)) * 3_600.0)
    state = folded(PROBLEM, POLICY, warm_rows(rng))
    chooser, _ = choosers()
    spent, dear, refused, rate = 0.0, 0, 0, None
    for seq, now_s in enumerate(at_s):
        rate = looked_at(rate, seq, now_s, now_s)
        allowance = per_request_usd(budget_usd - spent, rate.per_s * (DAY_S - now_s))
        request = RoutingRequest(messages=(), allowance_usd=allowance)
        policy, priced = chooser.of(request, seq // 50, state)
        x = rng.normal(size=4)
        # A model of which one call may take more than is left is not to be chosen.
        eligible = np.array(COST_USD) * 1.5 <= budget_usd - spent
        if not eligible.any():
            refused += 1
            continue
        selection = select(PROBLEM, policy, priced, x, 20, eligible, ExplorationConfig(), None)
        arm = draw(selection.pmf, rng.random())
        cost = COST_USD[arm] * rng.uniform(0.5, 1.5)
        spent += cost
        dear += arm
        row = make_row(1_000 + seq, PROBLEM.arms[arm], x, reward=quality(arm, x), cost_usd=cost)
        if seq % 10 == 0:
            state = fold(PROBLEM, POLICY, state, row)
    return spent, dear / at_s.size, refused


def quality(arm: int, x: np.ndarray) -> float:
    return float(np.clip(0.6 + arm * (0.15 + 0.1 * x[0]), 0.0, 1.0))


def warm_rows(rng: np.random.Generator) -> list[Any]:
    rows = []
    for seq in range(120):
        x = rng.normal(size=4)
        cost = COST_USD[seq % 2] * rng.uniform(0.5, 1.5)
        arm = PROBLEM.arms[seq % 2]
        rows.append(make_row(seq, arm, x, reward=quality(seq % 2, x), cost_usd=cost))
    return rows


@pytest.mark.parametrize("busiest", [3, 9, 20])
def test_a_day_is_spent_to_within_a_few_per_cent_and_never_passed(busiest: int) -> None:
    # Six times as many requests at the busiest hour as at the quietest.
    weights = 45.0 * (1.0 + 0.7 * np.cos((np.arange(24) - busiest) / 24.0 * 2.0 * np.pi))
    budget_usd = 1.2
    spent, dear, refused = one_day(budget_usd, weights, seed=busiest)
    assert spent <= budget_usd
    assert spent > 0.96 * budget_usd
    assert refused == 0
    assert 0.1 < dear < 0.5


def test_of_two_budgets_the_smaller_holds() -> None:
    chooser, problem = choosers(budget_usd_per_request=1e-3)
    state = folded(problem, POLICY, warm_rows(np.random.default_rng(0)))

    def price(allowance_usd: float | None) -> float:
        request = RoutingRequest(messages=(), allowance_usd=allowance_usd)
        return chooser.of(request, 1, state)[1].pacer.price_of_dollar

    own = price(None)
    assert price(5e-4) > own
    # More than the policy's own mean is nobody's to spend.
    assert price(0.1) == own
    assert price(0.0) > price(2e-4) > price(5e-4)


def test_a_price_is_solved_once_per_step_and_snapshot() -> None:
    chooser, problem = choosers()
    state = init_state(problem, POLICY)
    request = RoutingRequest(messages=(), allowance_usd=3.02e-4)
    first = chooser.of(request, 1, state)[1]
    assert chooser.of(replace(request, allowance_usd=3.03e-4), 1, state)[1] is first
    assert chooser.of(request, 2, state)[1] is not first
