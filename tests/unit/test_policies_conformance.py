"""What every registered policy must do; a new line in the registry is picked up by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from core_samples import make_policy, policy_names

from bandit_router.choice import draw
from bandit_router.errors import ConfigError
from bandit_router.policies import POLICIES, Context, Evidence, Policy, PolicyOptions, build_policy
from bandit_router.policies.base import Rows
from bandit_router.types import BoolArray, FloatArray

DIMENSION = 5
SIZES = (1, 2, 3, 8)
GROUPS = np.array([0.0, 1.0, 1.0, 2.0, 2.0])


@pytest.fixture(params=policy_names())
def policy(request: pytest.FixtureRequest) -> Policy[Any]:
    return make_policy(request.param)


def contexts(count: int, seed: int) -> FloatArray:
    z = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    z[:, 0] = 1.0
    return z


def learned(policy: Policy[Any], arm_count: int, rows: int = 120) -> Any:
    """A state with a history: arrivals, revisions, retractions, a fading and a refit."""
    rng = np.random.default_rng(arm_count)
    state = policy.init(arm_count, DIMENSION)
    kept: list[tuple[int, FloatArray, float]] = []
    for i, z in enumerate(contexts(rows, seed=arm_count)):
        arm, reward = int(rng.integers(arm_count)), float(rng.uniform())
        state = policy.update(state, Evidence(arm, z, reward, None, 1.0))
        if i % 10 == 3:
            state = policy.update(state, Evidence(arm, z, 1.0 - reward, reward, 1.0))
            reward = 1.0 - reward
        if i % 10 == 7:
            state = policy.update(state, Evidence(arm, z, None, reward, 1.0))
            continue
        kept.append((arm, z, reward))
    return policy.fade(state, 0.9)


def logged(arm_count: int, rows: int = 90) -> Rows:
    rng = np.random.default_rng(7)
    return Rows(
        z=contexts(rows, seed=8),
        arm=rng.integers(0, arm_count, rows),
        value=rng.uniform(size=rows),
        weight=rng.uniform(0.2, 1.0, rows),
    )


def context(policy: Policy[Any], state: Any, z: FloatArray, penalty: FloatArray) -> Context:
    return Context(z=z, beliefs=policy.beliefs(state, z), penalty=penalty)


def masks(count: int) -> Iterator[BoolArray]:
    """Every arm, each alone, and random ones."""
    rng = np.random.default_rng(count)
    yield np.ones(count, dtype=np.bool_)
    for k in range(count):
        yield np.arange(count) == k
    for _ in range(20):
        some = rng.random(count) < 0.6
        if some.any():
            yield some


def arrays_of(policy: Policy[Any], state: Any) -> dict[str, FloatArray]:
    return {name: np.array(array) for name, array in policy.arrays(state).items()}


def assert_equal_bits(one: dict[str, FloatArray], other: dict[str, FloatArray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("count", SIZES)
def test_the_pmf_is_valid_on_every_mask(policy: Policy[Any], count: int) -> None:
    rng = np.random.default_rng(3)
    for state in (policy.init(count, DIMENSION), learned(policy, count)):
        for z, eligible in zip(contexts(60, seed=4), masks(count), strict=False):
            penalty = rng.uniform(0.0, 2.0, count)
            pmf = policy.pmf(state, context(policy, state, z, penalty), eligible)
            assert pmf.shape == (count,)
            assert pmf.dtype == np.float64
            assert (pmf >= 0.0).all()
            assert pmf.sum() == pytest.approx(1.0, abs=1e-12)
            assert (pmf[~eligible] == 0.0).all()


def test_beliefs_and_spread_have_their_shapes(policy: Policy[Any]) -> None:
    state = learned(policy, 3)
    z = contexts(9, seed=1)
    mean, sd = policy.spread(state, z)
    assert mean.shape == sd.shape == (9, 3)
    assert (sd >= 0.0).all()
    for row in range(9):
        beliefs = policy.beliefs(state, z[row])
        assert beliefs.mean.shape == beliefs.sd.shape == (3,)
        assert (beliefs.sd >= 0.0).all()
        np.testing.assert_allclose(beliefs.mean, mean[row], atol=1e-12)
        for arm in range(3):
            expected = (beliefs.mean[arm], beliefs.sd[arm])
            assert policy.belief_of(state, z[row], arm) == pytest.approx(expected, abs=1e-12)


def test_the_same_state_gives_the_same_pmf(policy: Policy[Any]) -> None:
    one, other = learned(policy, 3), learned(policy, 3)
    assert_equal_bits(arrays_of(policy, one), arrays_of(policy, other))
    everyone = np.ones(3, dtype=np.bool_)
    for z in contexts(10, seed=2):
        first = policy.pmf(one, context(policy, one, z, np.zeros(3)), everyone)
        again = policy.pmf(one, context(policy, one, z, np.zeros(3)), everyone)
        apart = policy.pmf(other, context(policy, other, z, np.zeros(3)), everyone)
        assert first.tobytes() == again.tobytes() == apart.tobytes()


def test_no_function_changes_the_state_it_is_handed(policy: Policy[Any]) -> None:
    state = learned(policy, 3)
    before = arrays_of(policy, state)
    z, penalty, eligible = contexts(1, seed=5)[0], np.full(3, 0.1), np.array([True, False, True])
    inputs = [array.copy() for array in (z, penalty, eligible)]
    handed = context(policy, state, z, penalty)
    policy.pmf(state, handed, eligible)
    policy.spread(state, contexts(4, seed=6))
    for new, old in ((0.9, None), (0.2, 0.7), (None, 0.5)):
        policy.update(state, Evidence(0, z, new, old, 1.0))
    policy.fade(state, 0.5)
    policy.refit(state, logged(3), GROUPS)
    assert_equal_bits(before, arrays_of(policy, state))
    for array, kept in zip((z, penalty, eligible), inputs, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_draws_are_as_frequent_as_the_pmf_says(policy: Policy[Any]) -> None:
    state = learned(policy, 4)
    z = contexts(1, seed=9)[0]
    eligible = np.array([True, True, False, True])
    pmf = policy.pmf(state, context(policy, state, z, np.zeros(4)), eligible)
    rng = np.random.default_rng(10)
    count = 10_000
    drawn = np.bincount([draw(pmf, u) for u in rng.random(count)], minlength=4) / count
    assert (np.abs(drawn - pmf) <= 4.0 * np.sqrt(pmf * (1.0 - pmf) / count)).all()


@pytest.mark.parametrize("count", SIZES)
def test_a_snapshot_holds_the_state_bit_for_bit(policy: Policy[Any], count: int) -> None:
    refitted = policy.refit(learned(policy, count), logged(count), GROUPS)
    everyone = np.ones(count, dtype=np.bool_)
    z = contexts(1, seed=11)[0]
    for state in (policy.init(count, DIMENSION), learned(policy, count), refitted):
        arrays = arrays_of(policy, state)
        assert all(array.dtype != object for array in arrays.values())
        back = policy.from_arrays(arrays)
        assert_equal_bits(arrays_of(policy, back), arrays)
        told = [
            policy.pmf(each, context(policy, each, z, np.zeros(count)), everyone)
            for each in (state, back)
        ]
        assert told[0].tobytes() == told[1].tobytes()
        # And both go the same way from here.
        evidence = Evidence(0, z, 0.75, None, 1.0)
        assert_equal_bits(
            arrays_of(policy, policy.update(state, evidence)),
            arrays_of(policy, policy.update(back, evidence)),
        )


def test_revision_and_retraction_end_where_the_final_value_alone_would(
    policy: Policy[Any],
) -> None:
    z = contexts(30, seed=12)
    through, direct = policy.init(2, DIMENSION), policy.init(2, DIMENSION)
    for i, row in enumerate(z):
        through = policy.update(through, Evidence(i % 2, row, 0.9, None, 1.0))
    for i, row in enumerate(z):
        final = None if i % 3 == 0 else 0.3
        through = policy.update(through, Evidence(i % 2, row, final, 0.9, 1.0))
        if final is not None:
            direct = policy.update(direct, Evidence(i % 2, row, final, None, 1.0))
    for row in z:
        for name in ("mean", "sd"):
            np.testing.assert_allclose(
                getattr(policy.beliefs(through, row), name),
                getattr(policy.beliefs(direct, row), name),
                atol=1e-9,
            )


def test_a_refit_can_start_from_nothing_and_from_another_dimension(policy: Policy[Any]) -> None:
    rows = logged(3)
    narrow = Rows(z=rows.z[:, :2], arm=rows.arm, value=rows.value, weight=rows.weight)
    state = policy.refit(policy.init(3, DIMENSION), narrow, GROUPS[:2])
    assert policy.beliefs(state, rows.z[0, :2]).mean.shape == (3,)
    none = Rows(z=rows.z[:0], arm=rows.arm[:0], value=rows.value[:0], weight=rows.weight[:0])
    state = policy.refit(policy.init(3, DIMENSION), none, GROUPS)
    assert np.isfinite(policy.beliefs(state, rows.z[0]).mean).all()


def test_one_arm_alone_is_always_chosen(policy: Policy[Any]) -> None:
    state = learned(policy, 1)
    z = contexts(1, seed=13)[0]
    pmf = policy.pmf(state, context(policy, state, z, np.array([5.0])), np.array([True]))
    np.testing.assert_array_equal(pmf, [1.0])


def test_the_name_is_the_registered_one(policy: Policy[Any]) -> None:
    assert build_policy(policy.name, PolicyOptions(fixed_arm=0)) == policy


def test_an_unknown_policy_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"no policy 'greedy'; known policies: .*thompson"):
        build_policy("greedy", PolicyOptions())
    with pytest.raises(ConfigError, match=r"policy 'fixed' needs a model"):
        build_policy("fixed", PolicyOptions())
    assert {"thompson", "epsilon_greedy", "linucb", "fixed", "random"} <= POLICIES.keys()


def told(
    name: str, options: PolicyOptions, eligible: list[bool], penalty: list[float]
) -> FloatArray:
    """The pmf of a policy that has seen rewards of 0.2, 0.5 and 0.8 twenty times each."""
    policy = build_policy(name, options)
    state = policy.init(3, 1)
    one = np.ones(1)
    for arm, reward in ((0, 0.2), (1, 0.5), (2, 0.8)):
        for _ in range(20):
            state = policy.update(state, Evidence(arm, one, reward, None, 1.0))
    handed = context(policy, state, one, np.array(penalty))
    return policy.pmf(state, handed, np.array(eligible))


NO_PENALTY = [0.0, 0.0, 0.0]
ALL = [True, True, True]


def test_epsilon_greedy_is_greedy_but_for_epsilon() -> None:
    options = PolicyOptions(epsilon=0.3)
    np.testing.assert_allclose(told("epsilon_greedy", options, ALL, NO_PENALTY), [0.1, 0.1, 0.8])
    np.testing.assert_allclose(
        told("epsilon_greedy", options, [True, True, False], NO_PENALTY), [0.15, 0.85, 0.0]
    )
    np.testing.assert_allclose(
        told("epsilon_greedy", options, ALL, [0.0, 0.0, 0.5]), [0.1, 0.8, 0.1]
    )


def test_linucb_takes_the_highest_bound() -> None:
    policy = build_policy("linucb", PolicyOptions(confidence=1.0))
    state = policy.init(2, 1)
    one, everyone = np.ones(1), np.ones(2, dtype=np.bool_)
    for _ in range(50):
        state = policy.update(state, Evidence(0, one, 0.7, None, 1.0))
    # The untried arm promises more: 0.5 + 0.5 against 0.7 and little.
    handed = context(policy, state, one, np.zeros(2))
    np.testing.assert_array_equal(policy.pmf(state, handed, everyone), [0.0, 1.0])
    timid = build_policy("linucb", PolicyOptions(confidence=0.0))
    np.testing.assert_array_equal(timid.pmf(state, handed, everyone), [1.0, 0.0])


def test_fixed_stays_with_its_model_while_it_can() -> None:
    options = PolicyOptions(fixed_arm=0)
    np.testing.assert_array_equal(told("fixed", options, ALL, NO_PENALTY), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(
        told("fixed", options, [False, True, True], NO_PENALTY), [0.0, 0.0, 1.0]
    )
    np.testing.assert_array_equal(
        told("fixed", options, [False, True, True], [0.0, 0.0, 0.5]), [0.0, 1.0, 0.0]
    )


def test_random_cares_for_nothing_but_eligibility() -> None:
    np.testing.assert_allclose(
        told("random", PolicyOptions(), [True, False, True], [9.0, 0.0, 0.0]), [0.5, 0.0, 0.5]
    )


def test_thompson_prefers_what_is_better_and_avoids_what_is_dear() -> None:
    free = told("thompson", PolicyOptions(), ALL, NO_PENALTY)
    assert free[2] > 0.9
    dear = told("thompson", PolicyOptions(), ALL, [0.0, 0.0, 0.6])
    assert dear[1] > 0.9
    # A smaller scale explores less.
    timid = told("thompson", PolicyOptions(sampling_scale=0.1), ALL, [0.0, 0.0, 0.25])
    bold = told("thompson", PolicyOptions(sampling_scale=3.0), ALL, [0.0, 0.0, 0.25])
    assert timid[2] > bold[2] > 0.3
