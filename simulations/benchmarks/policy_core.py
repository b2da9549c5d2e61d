"""How long one decision and one update take in the core, exact propensities included.

Run with: make bench. Beside it, in the same run, bare numpy marginal Thompson sampling, which
draws without propensities, as a yardstick for the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router import effort
from bandit_router.choice import draw, mix
from bandit_router.effort import Prices
from bandit_router.exploration import no_exploration
from bandit_router.policies import Context, Evidence, PolicyOptions, build_policy
from simulations.protocols.yardstick import bare_thompson, stream

SIZES = [(64, 2), (64, 8), (64, 32), (384, 8)]
WARM_ROWS = 400


@pytest.mark.parametrize(("dimension", "arms"), SIZES)
def test_decision_and_update(benchmark: Any, dimension: int, arms: int) -> None:
    """Beliefs, pmf over the argmax, exploration, draw, and the posterior's update."""
    policy = build_policy("thompson", PolicyOptions())
    rng = np.random.default_rng(1)
    rows = stream(dimension, 512)
    truth = rng.normal(size=(arms, dimension)) * 0.02 + 0.5 / dimension
    everyone = np.ones(arms, dtype=np.bool_)
    penalty = np.linspace(0.0, 0.05, arms)
    nothing = no_exploration(arms)
    state = policy.init(arms, dimension)
    for i in range(WARM_ROWS):
        z = rows[i % 512]
        k = i % arms
        state = policy.update(state, Evidence(k, z, float(truth[k] @ z), None, 1.0))
    held = {"state": state, "i": 0}

    def once() -> None:
        i = held["i"]
        held["i"] = i + 1
        z = rows[i % 512]
        beliefs = policy.beliefs(held["state"], z)
        pmf = mix(policy.pmf(held["state"], Context(z, beliefs, penalty), everyone), nothing)
        k = draw(pmf, 0.37)
        evidence = Evidence(k, z, float(truth[k] @ z), None, 1.0)
        held["state"] = policy.update(held["state"], evidence)

    benchmark(once)


@pytest.mark.parametrize(("dimension", "arms"), SIZES)
def test_decision_and_update_with_cost_and_latency(
    benchmark: Any, dimension: int, arms: int
) -> None:
    """The same, with dollars and seconds predicted for every arm, and learned of the chosen."""
    policy = build_policy("thompson", PolicyOptions())
    rng = np.random.default_rng(1)
    rows = stream(dimension, 512)
    truth = rng.normal(size=(arms, dimension)) * 0.02 + 0.5 / dimension
    everyone = np.ones(arms, dtype=np.bool_)
    nothing = no_exploration(arms)
    prices = Prices(np.full(arms, 1e-6), np.linspace(1e-6, 1e-5, arms), np.zeros(arms))
    held: dict[str, Any] = {
        "policy": policy.init(arms, dimension),
        "effort": effort.empty_effort(arms, dimension, np.full(arms, 300.0)),
        "i": 0,
    }

    def once(forced: int = -1) -> None:
        i = held["i"]
        held["i"] = i + 1
        z = rows[i % 512]
        beliefs = policy.beliefs(held["policy"], z)
        seconds = effort.predicted_latency_s(held["effort"], z)
        amount = effort.predicted_amount(held["effort"], z)
        penalty = 2.0 * effort.cost_usd(prices, 100.0, amount, seconds) + 1e-3 * seconds
        pmf = mix(policy.pmf(held["policy"], Context(z, beliefs, penalty), everyone), nothing)
        k = draw(pmf, 0.37) if forced < 0 else forced
        evidence = Evidence(k, z, float(truth[k] @ z), None, 1.0)
        held["policy"] = policy.update(held["policy"], evidence)
        held["effort"] = effort.after_call(
            held["effort"], k, z, amount=250.0, latency_s=1.5, weight=1.0
        )

    for i in range(WARM_ROWS):
        once(i % arms)
    benchmark(once)


@pytest.mark.parametrize(("dimension", "arms"), SIZES)
def test_bare_numpy_thompson(benchmark: Any, dimension: int, arms: int) -> None:
    """The yardstick: marginal draws and Sherman–Morrison in place, no propensities."""
    benchmark(bare_thompson(dimension, arms))
