"""A bank of heads moves one arm at a time and shares one prior."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router import heads
from bandit_router.heads import HeadBank
from bandit_router.policies.linear import cold_prior
from bandit_router.posterior import Sums, from_sums, mean_and_variance

Z = np.array([1.0, 0.5, -2.0])


def bank_with_rows() -> HeadBank:
    state = heads.empty_bank(cold_prior(3), 3)
    state = heads.changed(state, 0, Z, new=0.9, old=None, weight=1.0)
    return heads.changed(state, 2, -Z, new=0.2, old=None, weight=0.5)


def test_a_row_moves_its_own_arm_only() -> None:
    before = heads.empty_bank(cold_prior(3), 3)
    after = heads.changed(before, 1, Z, new=0.9, old=None, weight=1.0)
    assert after.arms[0] is before.arms[0]
    assert after.arms[2] is before.arms[2]
    assert after.arms[1].mean @ Z > before.arms[1].mean @ Z
    np.testing.assert_array_equal(after.means, np.stack([arm.mean for arm in after.arms]))
    np.testing.assert_array_equal(before.means[1], before.arms[1].mean)


def test_a_change_from_nothing_to_nothing_is_none() -> None:
    state = bank_with_rows()
    assert heads.changed(state, 0, Z, new=None, old=None, weight=1.0) is state


@pytest.mark.parametrize(("new", "same_as"), [(0.3, 0.3), (None, None)])
def test_a_revision_or_retraction_ends_where_it_should(
    new: float | None, same_as: float | None
) -> None:
    changed = heads.changed(bank_with_rows(), 0, Z, new=new, old=0.9, weight=1.0)
    plain = heads.empty_bank(cold_prior(3), 3)
    if same_as is not None:
        plain = heads.changed(plain, 0, Z, new=same_as, old=None, weight=1.0)
    np.testing.assert_allclose(changed.means[0], plain.means[0], atol=1e-12)
    assert changed.arms[0].sums.weight == pytest.approx(plain.arms[0].sums.weight, abs=1e-12)


def test_variances_are_those_of_each_posterior() -> None:
    state = bank_with_rows()
    expected = [mean_and_variance(arm, Z)[1] for arm in state.arms]
    np.testing.assert_allclose(heads.variances(state, Z), expected, atol=1e-15)


def test_fading_shrinks_weights_and_leads_back_to_the_prior() -> None:
    state = bank_with_rows()
    half = heads.faded(state, 0.5)
    assert [arm.sums.weight for arm in half.arms] == [0.5, 0.0, 0.25]
    expected = from_sums(state.arms[0].sums.scaled(0.5), state.priors.arms[0])
    np.testing.assert_allclose(half.means[0], expected.mean, atol=1e-15)
    gone = heads.faded(state, 1e-12)
    np.testing.assert_allclose(gone.means, heads.empty_bank(cold_prior(3), 3).means, atol=1e-9)


def test_a_refit_keeps_the_rows_and_changes_the_prior() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100, 3))
    z[:, 0] = 1.0
    y = 0.6 + 0.2 * z[:, 1] + rng.normal(0.0, 0.05, 100)
    sums = [Sums.of(z, y, np.ones(100)), Sums.empty(3)]
    groups = np.array([0.0, 1.0, 1.0])
    start = cold_prior(3)
    state = heads.refitted(sums, groups, start, bias_sd=0.5, least_noise=1e-4)
    assert state.priors.unseen.noise < start.noise
    assert state.arms[0].sums.weight == 100.0
    assert state.means[0] @ np.array([1.0, 1.0, 0.0]) == pytest.approx(0.8, abs=0.05)
    # An arm without rows is believed to be like the others.
    assert state.means[1][0] == pytest.approx(y.mean(), abs=1e-9)


def test_a_share_of_the_context_is_drawn_and_the_level_in_full() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(30, 3))
    rows[:, 0] = 1.0
    sums = [Sums.of(rows, rng.random(30), np.ones(30)), Sums.empty(3)]
    start = cold_prior(3)
    state = heads.refitted(sums, np.array([0.0, 1.0, 1.0]), start, bias_sd=0.5, least_noise=1e-4)
    z = np.array([1.0, 0.7, -1.3])
    for share in (0.0, 0.25, 1.0):
        sd, drawn = heads.sds_and_draws(state, z, share)
        np.testing.assert_allclose(sd, np.sqrt(heads.variances(state, z)), rtol=1e-12)
        scaled = np.r_[1.0, share * z[1:]]
        expected = [scaled @ arm.covariance @ scaled for arm in state.arms]
        np.testing.assert_allclose(drawn, np.sqrt(expected), rtol=1e-9)
