"""From stored features to learned coordinates."""

from __future__ import annotations

import numpy as np

from bandit_router.basis import (
    MOST_COMPONENTS,
    ROWS_PER_COMPONENT,
    WIDE_BLOCK,
    Basis,
    cold_basis,
    coordinates,
    coordinates_of_rows,
    fit_basis,
)
from bandit_router.protocols import FeatureBlock
from bandit_router.types import FloatArray

WIDE = WIDE_BLOCK + 36
BLOCKS = (
    FeatureBlock("surface", 0, 3),
    FeatureBlock("text", 3, 3 + WIDE),
    FeatureBlock("metadata.task", 3 + WIDE, 5 + WIDE),
)
NAMES = (
    "length",
    "digits",
    "code",
    *(f"text[{i}]" for i in range(WIDE)),
    "task[0]",
    "task[1]",
)


def features(count: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 3.0, (count, len(NAMES)))
    # Text lies near a few directions; nobody ever sent a task.
    topics = rng.normal(size=(4, WIDE))
    x[:, 3 : 3 + WIDE] = rng.normal(size=(count, 4)) @ topics + rng.normal(0, 0.1, (count, WIDE))
    x[:, 3 + WIDE :] = 0.0
    return x


def test_a_cold_basis_takes_narrow_blocks_as_they_are() -> None:
    basis = cold_basis(NAMES, BLOCKS)
    assert basis.names == ("bias", "length", "digits", "code", "task[0]", "task[1]")
    np.testing.assert_array_equal(basis.groups, [0, 1, 1, 1, 2, 2])
    x = np.arange(float(len(NAMES))) / 100.0
    np.testing.assert_array_equal(coordinates(basis, x), [1.0, x[0], x[1], x[2], x[-2], x[-1]])
    assert basis.dimension == 6


def test_a_fitted_basis_standardises_narrow_blocks() -> None:
    x = features(400)
    basis = fit_basis(x, NAMES, BLOCKS)
    z = coordinates_of_rows(basis, x)
    assert basis.names[:4] == ("bias", "length", "digits", "code")
    np.testing.assert_array_equal(z[:, 0], np.ones(400))
    # Clipping at four deviations moves these a little.
    np.testing.assert_allclose(z[:, 1:4].mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(z[:, 1:4].std(axis=0), 1.0, atol=1e-2)


def test_columns_that_never_varied_cost_nothing() -> None:
    basis = fit_basis(features(400), NAMES, BLOCKS)
    assert not any(name.startswith("task") for name in basis.names)
    np.testing.assert_array_equal(np.unique(basis.groups), [0, 1, 2])


def test_a_wide_block_is_compressed_to_its_leading_components() -> None:
    x = features(400)
    basis = fit_basis(x, NAMES, BLOCKS)
    u = ((x - basis.shift) @ basis.matrix)[:, basis.plain :]
    assert u.shape[1] == min(MOST_COMPONENTS, 400 // ROWS_PER_COMPONENT)
    covariance = u.T @ u / 400
    # Principal components: uncorrelated, falling, of mean variance one, four of them real.
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-9)
    variances = np.diag(covariance)
    assert (np.diff(variances) <= 1e-12).all()
    assert abs(variances.mean() - 1.0) < 1e-9
    assert variances[:4].sum() / variances.sum() > 0.99


def test_likenesses_have_to_be_earned_by_rows() -> None:
    def found(count: int) -> int:
        basis = fit_basis(features(count), NAMES, BLOCKS)
        return sum(name.startswith("likeness") for name in basis.names)

    assert [found(count) for count in (11, 12, 24, 400, 1000)] == [0, 1, 2, 32, 32]


def test_signs_of_components_do_not_flip_between_refits() -> None:
    x = features(500)
    one = fit_basis(x, NAMES, BLOCKS)
    other = fit_basis(np.vstack([x, features(20, seed=1)[:, :]]), NAMES, BLOCKS)
    first = one.plain
    assert one.matrix[:, first] @ other.matrix[:, first] > 0.0
    columns = one.matrix[3 : 3 + WIDE, first : first + MOST_COMPONENTS]
    largest = columns[np.abs(columns).argmax(axis=0), range(columns.shape[1])]
    assert (largest > 0.0).all()


def test_one_odd_prompt_cannot_lever_a_posterior() -> None:
    basis = fit_basis(features(400), NAMES, BLOCKS)
    odd = np.full(len(NAMES), 1e30)
    assert np.abs(coordinates(basis, odd)).max() <= 4.0


def test_one_row_at_a_time_gives_what_all_at_once_give() -> None:
    x = features(50)
    basis = fit_basis(x, NAMES, BLOCKS)
    rows = np.stack([coordinates(basis, row) for row in x])
    np.testing.assert_allclose(rows, coordinates_of_rows(basis, x), atol=1e-12)


def test_a_single_row_leaves_the_bias_alone() -> None:
    basis = fit_basis(features(1), NAMES, BLOCKS)
    assert basis.names == ("bias",)
    np.testing.assert_array_equal(coordinates(basis, features(1)[0]), [1.0])


def test_without_any_block_there_is_the_bias() -> None:
    for basis in (cold_basis((), ()), fit_basis(np.zeros((5, 0)), (), ())):
        assert isinstance(basis, Basis)
        np.testing.assert_array_equal(coordinates(basis, np.zeros(0)), [1.0])
