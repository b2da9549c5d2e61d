"""What a request's bounds on dollars, seconds and quality leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from bandit_router import effort
from bandit_router.constraints import (
    LEAST_CALLS,
    Foresight,
    QualityFloors,
    bounded,
    foresee,
    pessimistic_quality,
)
from bandit_router.effort import Prices
from bandit_router.errors import NoEligibleModel
from bandit_router.policies.base import Beliefs
from bandit_router.types import Controls, MaskReason, Prediction

ARMS = ("quick", "slow", "unknown")
ALL = np.ones(3, dtype=np.bool_)
PREDICTION = Prediction(
    quality=np.array([0.6, 0.9, 0.5]),
    quality_sd=np.array([0.1, 0.1, 0.3]),
    cost_usd=np.array([0.001, 0.02, 0.05]),
    latency_s=np.array([1.0, 8.0, 2.0]),
)
FORESIGHT = Foresight(
    prediction=PREDICTION,
    miss_probability=np.array([0.02, 0.7, 0.9]),
    measured=np.array([True, True, False]),
    priced=np.array([True, True, False]),
)


def test_a_model_that_would_probably_be_late_is_masked_and_one_unknown_may_be_tried() -> None:
    controls = Controls(max_latency_s=3.0)
    assert bounded(ARMS, FORESIGHT, ALL, controls, 0.1) == {"slow": MaskReason.TOO_SLOW}
    assert bounded(ARMS, FORESIGHT, ALL, controls, 0.8) == {}
    # A request that is not to be used for trying takes no chances.
    sure = replace(controls, explore=False)
    assert bounded(ARMS, FORESIGHT, ALL, sure, 0.1) == {
        "slow": MaskReason.TOO_SLOW,
        "unknown": MaskReason.TOO_SLOW,
    }


def test_a_model_that_costs_more_than_allowed_is_masked() -> None:
    controls = Controls(max_cost_usd=0.01)
    found = bounded(ARMS, replace(FORESIGHT, miss_probability=np.zeros(3)), ALL, controls, 0.1)
    assert found == {"slow": MaskReason.TOO_DEAR}


def test_bounds_that_leave_nothing_are_refused_with_the_nearest_remedy() -> None:
    eligible = np.array([True, True, False])
    with pytest.raises(NoEligibleModel, match=r"'quick' is the cheapest, at about \$0.001") as told:
        bounded(ARMS, FORESIGHT, eligible, Controls(max_cost_usd=1e-4), 0.1)
    assert told.value.masked == {"quick": MaskReason.TOO_DEAR, "slow": MaskReason.TOO_DEAR}


def test_the_chance_of_being_late_comes_from_belief_and_noise() -> None:
    prices = Prices(np.zeros(3), np.array([0.0, 1e-6, 0.0]), np.zeros(3))
    state = effort.empty_effort(3, 1, np.full(3, 300.0))
    z = np.ones(1)
    for _ in range(int(LEAST_CALLS)):
        state = effort.after_call(state, 0, z, amount=1.0, latency_s=2.0, weight=1.0)
    seen = foresee(prices, state, z, PREDICTION, Controls(max_latency_s=4.0))
    assert seen.measured.tolist() == [True, False, False]
    assert seen.priced.tolist() == [True, True, False]
    head, noise = state.latency.arms[0], state.latency.priors.arms[0].noise
    sd = np.sqrt(head.covariance[0, 0] + noise)
    assert seen.miss_probability[0] == pytest.approx(ndtr((head.mean[0] - np.log(4.0)) / sd))
    asked_nothing = foresee(prices, state, z, PREDICTION, Controls(max_cost_usd=1.0))
    assert asked_nothing.miss_probability.tolist() == [0.0, 0.0, 0.0]


def test_trying_is_paid_from_the_quality_above_the_floor() -> None:
    beliefs = Beliefs(mean=np.array([0.9, 0.5]), sd=np.array([0.01, 0.1]))
    both = np.ones(2, dtype=np.bool_)
    least = pessimistic_quality(beliefs, 0)
    assert least.tolist() == pytest.approx([0.9, 0.5 - 0.1644854], abs=1e-6)
    floors = QualityFloors()
    assert floors.below("a", 0.9, beliefs, both).tolist() == [False, True]
    # Each baseline answer leaves a tenth of .9; a try takes .9 · .9 − .336 = .474: six pay for it.
    for _ in range(5):
        floors.chosen("a", beliefs, 0, both)
    assert floors.below("a", 0.9, beliefs, both).tolist() == [False, True]
    floors.chosen("a", beliefs, 0, both)
    assert floors.below("a", 0.9, beliefs, both).tolist() == [False, False]
    floors.chosen("a", beliefs, 1, both)
    assert floors.below("a", 0.9, beliefs, both).tolist() == [False, True]
    # Another tenant has an account of its own.
    assert floors.below("b", 0.9, beliefs, both).tolist() == [False, True]
