"""Mixing, seeding and drawing: what makes a logged propensity exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from bandit_router.choice import draw, mix, uniform_for
from bandit_router.exploration import no_exploration
from bandit_router.ids import uuid7
from bandit_router.types import Exploration

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LARGEST_BELOW_ONE = float(np.nextafter(1.0, 0.0))


def decision_ids(count: int) -> list[UUID]:
    rng = np.random.default_rng(20)
    return [
        uuid7(NOON + timedelta(milliseconds=37 * i), int.from_bytes(rng.bytes(10), "big"))
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "pmf",
    [
        [0.5, 0.3, 0.2],
        [0.97, 0.0, 0.01, 0.02],
        [0.0, 1.0],
        [1 / 8] * 8,
        [0.001, 0.999],
    ],
)
def test_logged_propensity_matches_sampling_frequency(pmf: list[float]) -> None:
    count = 10_000
    vector = np.array(pmf)
    drawn = [draw(vector, uniform_for(each, b"secret")) for each in decision_ids(count)]
    frequency = np.bincount(drawn, minlength=vector.size) / count
    standard_error = np.sqrt(vector * (1.0 - vector) / count)
    assert (np.abs(frequency - vector) <= 4.0 * standard_error).all()


@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.25, 0.5, 0.75, LARGEST_BELOW_ONE])
@pytest.mark.parametrize(
    "pmf",
    [[0.0, 0.5, 0.0, 0.5, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.1, 0.2, 0.7, 0.0], [1.0]],
)
def test_an_arm_of_probability_zero_is_never_drawn(pmf: list[float], uniform: float) -> None:
    assert pmf[draw(np.array(pmf), uniform)] > 0.0


def test_a_vector_whose_sum_is_rounded_still_gives_an_arm() -> None:
    pmf = np.full(10, 0.1)  # adds to 0.9999999999999999
    assert draw(pmf, LARGEST_BELOW_ONE) == 9
    assert draw(pmf * (1.0 + 1e-12), LARGEST_BELOW_ONE) == 9


def test_edges_belong_to_the_arm_above_them() -> None:
    pmf = np.array([0.25, 0.25, 0.5])
    assert [draw(pmf, u) for u in (0.0, 0.2499, 0.25, 0.4999, 0.5, 0.9999)] == [0, 0, 1, 1, 2, 2]


def test_mixing_keeps_the_floor() -> None:
    floor = np.array([0.05, 0.02, 0.0])
    mixed = mix(np.array([0.0, 1.0, 0.0]), Exploration(floor))
    np.testing.assert_allclose(mixed, [0.05, 0.95, 0.0], atol=1e-15)
    assert (mixed >= floor).all()


def test_a_forced_look_takes_its_share_from_all() -> None:
    mixed = mix(np.array([0.8, 0.2, 0.0]), Exploration(np.zeros(3), 2, 0.5))
    np.testing.assert_allclose(mixed, [0.4, 0.1, 0.5], atol=1e-15)


def test_mixing_nothing_changes_nothing() -> None:
    pmf = np.array([0.25, 0.5, 0.25])
    np.testing.assert_array_equal(mix(pmf, no_exploration(3)), pmf)


def test_mixing_leaves_its_input_as_it_was() -> None:
    pmf, floor = np.array([0.0, 1.0]), np.array([0.1, 0.1])
    mix(pmf, Exploration(floor, 0, 0.5))
    np.testing.assert_array_equal(pmf, [0.0, 1.0])
    np.testing.assert_array_equal(floor, [0.1, 0.1])


def test_the_uniform_is_fixed_by_id_secret_and_purpose() -> None:
    one, other = decision_ids(2)
    assert uniform_for(one, b"secret") == uniform_for(one, b"secret")
    found = {
        uniform_for(one, b"secret"),
        uniform_for(one, b"other secret"),
        uniform_for(other, b"secret"),
        uniform_for(one, b"secret", b"sticky"),
    }
    assert len(found) == 4


def test_the_uniform_is_uniform() -> None:
    values = np.array([uniform_for(each, b"secret") for each in decision_ids(10_000)])
    counts = np.histogram(values, bins=20, range=(0.0, 1.0))[0]
    # Chi-square with 19 degrees of freedom: mean 19, sd 6.2.
    chi_square = ((counts - 500.0) ** 2 / 500.0).sum()
    assert chi_square < 19.0 + 4.0 * np.sqrt(2.0 * 19.0)


def test_the_uniform_stays_below_one_whatever_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bandit_router.choice.hmac.digest", lambda *_: b"\xff" * 32)
    uniform = uniform_for(UUID(int=0), b"secret")
    assert uniform < 1.0
    assert draw(np.array([0.5, 0.5]), uniform) == 1
