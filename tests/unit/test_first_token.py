"""Seconds to a stream's first token: learned where streams were seen, and held against models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit_router import effort
from bandit_router.basis import coordinates_of_rows
from bandit_router.constraints import Foresight, bounded, foresee
from bandit_router.errors import NoEligibleModel
from bandit_router.in_blocks import fold_rows
from bandit_router.inspection import arm_reports
from bandit_router.learner import log_rows
from bandit_router.learning import LearnedState, init_state, predict, refit
from bandit_router.roster import with_arms
from bandit_router.snapshot import from_bytes, to_bytes
from bandit_router.types import Controls, MaskReason, Observation
from tests.core_samples import folded, make_policy, make_problem, make_rows

PROBLEM = make_problem()
POLICY = make_policy()
TYPICAL_S = {"small": 0.1, "large": 1.5, "local": 0.4}
EVERYONE = np.ones(3, dtype=np.bool_)


def streamed(count: int) -> list[Observation]:
    """Rows of streams; the first features' length makes a model a little slower."""
    return [
        replace(row, first_token_s=TYPICAL_S[row.arm] * float(np.exp(0.2 * row.features[0])))
        for row in make_rows(PROBLEM, count)
    ]


def learned(count: int = 240) -> LearnedState:
    rows = streamed(count)
    state = folded(PROBLEM, POLICY, rows)
    return refit(PROBLEM, POLICY, state, log_rows(PROBLEM, rows))


def predicted_s(state: LearnedState) -> np.ndarray:
    _, expected = predict(PROBLEM, POLICY, state, np.eye(1, state.basis.dimension)[0], 20.0)
    assert expected.first_token_s is not None
    return expected.first_token_s


def test_without_streams_there_is_no_head_and_nothing_is_predicted() -> None:
    rows = make_rows(PROBLEM, 60)
    state = folded(PROBLEM, POLICY, rows)
    for each in (state, refit(PROBLEM, POLICY, state, log_rows(PROBLEM, rows))):
        assert each.effort.first_token is None
        _, expected = predict(PROBLEM, POLICY, each, np.eye(1, each.basis.dimension)[0], 20.0)
        assert expected.first_token_s is None
        assert [report.first_token_s for report in arm_reports(PROBLEM, POLICY, each)] == [None] * 3


def test_first_tokens_are_learned_row_by_row_and_from_all_rows() -> None:
    by_row = folded(PROBLEM, POLICY, streamed(240))
    for state in (by_row, learned()):
        np.testing.assert_allclose(predicted_s(state), list(TYPICAL_S.values()), rtol=0.15)
    reports = arm_reports(PROBLEM, POLICY, by_row)
    assert reports[0].first_token_s == pytest.approx(0.1, rel=0.2)


def test_first_tokens_say_nothing_of_the_latency_of_whole_answers() -> None:
    plain, with_streams = (
        folded(PROBLEM, POLICY, rows) for rows in (make_rows(PROBLEM, 90), streamed(90))
    )
    np.testing.assert_array_equal(plain.effort.latency.means, with_streams.effort.latency.means)
    np.testing.assert_array_equal(plain.policy.means, with_streams.policy.means)


def test_many_rows_together_are_as_one_after_the_other() -> None:
    state, rows = learned(), streamed(300)[240:]
    z = np.stack([row.features for row in rows])
    known = log_rows(PROBLEM, rows)
    together = fold_rows(PROBLEM, POLICY, state, known, coordinates_of_rows(state.basis, z))
    assert together is not None
    one_by_one = folded(PROBLEM, POLICY, rows, state)
    np.testing.assert_allclose(predicted_s(together), predicted_s(one_by_one), rtol=1e-9)


def test_the_head_travels_in_snapshots_and_with_its_models() -> None:
    state = learned()
    back = from_bytes(PROBLEM, POLICY, to_bytes(PROBLEM, POLICY, state))
    assert to_bytes(PROBLEM, POLICY, back) == to_bytes(PROBLEM, POLICY, state)
    np.testing.assert_array_equal(predicted_s(back), predicted_s(state))
    fewer = with_arms(POLICY, state, PROBLEM, make_problem(("local", "new")))
    assert fewer.effort.first_token is not None
    waited = effort.predicted_first_token_s(fewer.effort, np.eye(1, state.basis.dimension)[0])
    assert waited is not None
    assert waited[0] == predicted_s(state)[2]
    faded = effort.faded(state.effort, 0.0)
    assert faded.first_token is not None
    assert [arm.sums.weight for arm in faded.first_token.arms] == [0.0] * 3


def test_a_model_whose_stream_would_begin_late_is_masked() -> None:
    state = learned()
    z = np.eye(1, state.basis.dimension)[0]
    _, expected = predict(PROBLEM, POLICY, state, z, 20.0)

    def seen(controls: Controls) -> Foresight:
        return foresee(PROBLEM.prices, state.effort, z, expected, controls)

    within = Controls(max_first_token_s=0.8)
    assert bounded(PROBLEM.arms, seen(within), EVERYONE, within, 0.1) == {
        "large": MaskReason.LATE_FIRST_TOKEN
    }
    # The whole answer takes longer than that, which is not what was asked.
    assert expected.latency_s[2] > 0.8
    sooner = Controls(max_first_token_s=0.01)
    with pytest.raises(
        NoEligibleModel, match=r"'small' is the likeliest to begin .* raise max_fir"
    ):
        bounded(PROBLEM.arms, seen(sooner), EVERYONE, sooner, 0.1)


def test_before_any_stream_nobody_is_held_to_a_first_token() -> None:
    state = init_state(PROBLEM, POLICY)
    z = np.eye(1, state.basis.dimension)[0]
    _, expected = predict(PROBLEM, POLICY, state, z, 20.0)
    asked = Controls(max_first_token_s=0.01)
    seen = foresee(PROBLEM.prices, state.effort, z, expected, asked)
    assert bounded(PROBLEM.arms, seen, EVERYONE, asked, 0.1) == {}
