"""The synthetic world: what it says is true is what its samples show."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.errors import DataError
from simulations.world import WORLDS, Change, WorldModel, make_world, named_world, simulate_traffic


@pytest.mark.parametrize("name", WORLDS)
def test_samples_average_to_the_stated_truth(name: str) -> None:
    world = named_world(name)
    rng = np.random.default_rng(1)
    contexts = world.contexts(8000, rng)
    expected, matrix = world.expected_quality(contexts), world.matrix(contexts, rng)
    off = (matrix.quality - expected).mean(axis=0)
    standard_error = matrix.quality.std(axis=0) / np.sqrt(8000)
    assert (np.abs(off) < 4 * standard_error).all()


def test_a_change_moves_quality_price_and_latency_from_its_request_on() -> None:
    world = named_world("office").with_changes(Change(500, "grand", -3.0, 0.1, 4.0))
    still = named_world("office")
    moved, before = (
        w.matrix(w.contexts(1000, np.random.default_rng(3)), np.random.default_rng(4))
        for w in (world, still)
    )
    k = moved.models.index("grand")
    assert np.array_equal(moved.quality[:500], before.quality[:500])
    assert np.allclose(moved.cost_usd[500:, k], 0.1 * before.cost_usd[500:, k])
    assert np.allclose(moved.latency_s[500:, k], 4.0 * before.latency_s[500:, k])
    assert moved.quality[500:, k].mean() < before.quality[500:, k].mean() - 0.2


def test_the_log_carries_the_pmf_that_was_drawn_from() -> None:
    traffic = simulate_traffic(
        named_world("office"), 400, np.random.default_rng(0), budget_usd=8e-4
    )
    pmf = np.array(traffic.log["pmf"].to_list())
    assert np.allclose(pmf.sum(axis=1), 1.0)
    assert np.array_equal(pmf[np.arange(400), traffic.trace.arm], traffic.trace.propensity)
    assert traffic.log["reward"].null_count() == 0


def test_feedback_comes_at_its_rate_and_may_depend_on_the_reward() -> None:
    rng = np.random.default_rng(0)
    traffic = simulate_traffic(
        named_world("office"),
        1500,
        rng,
        policy="random",
        feedback_rate=0.4,
        feedback_bias=-4.0,
        feedback_delay=20.0,
    )
    told = traffic.log["reward"].is_not_null().to_numpy()
    assert told.mean() == pytest.approx(0.4, abs=0.06)
    realised = traffic.trace.reward
    # People complain: what is told is worse than what is.
    assert realised[told].mean() < realised.mean() - 0.02
    assert traffic.state.rewards.sum() <= told.sum()
    assert traffic.state.pulls.sum() == 1500


def test_prompts_carry_their_topic_in_words() -> None:
    world = named_world("office")
    contexts = world.contexts(60, np.random.default_rng(0), texts=True)
    codes = [p for p, t in zip(contexts.prompts, contexts.topic, strict=True) if t == 1]
    assert codes
    assert all(
        set(p.split()) & {"python", "function", "sort", "list", "loop", "test"} for p in codes
    )


def test_worlds_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="no world 'moon'"):
        named_world("moon")
    with pytest.raises(DataError, match="has 1 skills for 2 topics"):
        make_world((WorldModel("a", (1.0,)),), ("x", "y"))
    with pytest.raises(DataError, match="3 features cannot show 2 topics"):
        make_world((WorldModel("a", (1.0, 1.0)),), ("x", "y"), feature_count=3)
    with pytest.raises(DataError, match="no model 'x'"):
        named_world("office").with_changes(Change(0, "x"))
