"""How fast to forget, chosen by what would have predicted the log's rewards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bandit_router.forgetting import (
    LOG_ODDS,
    SHORTEST,
    candidates,
    chosen_half_life,
    log_scores,
)
from bandit_router.learner import log_rows
from bandit_router.learning import fold, init_state, refit
from bandit_router.policies.base import Rows
from bandit_router.posterior import Prior
from bandit_router.snapshot import from_bytes, to_bytes
from bandit_router.types import Observation
from tests.core_samples import make_policy, make_problem, make_row

POLICY = make_policy()
PRIORS = (Prior(mean=np.array([0.5, 0.0]), precision=np.array([4.0, 25.0]), noise=0.01),) * 2


def rows_of(count: int, seed: int, swing: float) -> Rows:
    """Rewards of two arms, the first of which swings up and down once in 2,000 rows."""
    rng = np.random.default_rng(seed)
    z = np.stack([np.ones(count), rng.normal(size=count)], axis=1)
    arm = rng.integers(0, 2, count)
    level = 0.5 + swing * np.sin(np.arange(count) * np.pi / 1000.0) * (arm == 0)
    value = level + 0.05 * z[:, 1] + rng.normal(0.0, 0.1, count)
    return Rows(z=z, arm=arm, value=value, weight=np.ones(count))


def test_scores_are_those_of_predicting_block_after_block() -> None:
    priors = (Prior(mean=np.array([0.5]), precision=np.array([2.0]), noise=0.25),)
    rows = Rows(np.ones((3, 1)), np.zeros(3, dtype=np.int64), np.array([0.2, 0.6, 0.9]), np.ones(3))
    found = log_scores(rows, np.array([0, 10, 20]), priors, (None, 10.0), 3)
    expected = []
    for weights in ((1.0, 1.0), (0.25, 0.5)):
        score, past = 0.0, ((), weights[1:], weights)
        for i, kept in enumerate(past):
            precision = 2.0 + sum(kept) / 0.25
            mean = (2.0 * 0.5 + np.dot(kept, rows.value[:i]) / 0.25) / precision
            score += norm.logpdf(rows.value[i], mean, np.sqrt(1.0 / precision + 0.25))
        expected.append(score)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_where_nothing_changes_nothing_is_forgotten() -> None:
    for seed in range(40):
        assert chosen_half_life(rows_of(2_000, seed, 0.0), np.arange(2_000), PRIORS) is None


def test_a_slow_swing_is_forgotten_and_a_faster_one_sooner() -> None:
    rows = rows_of(8_000, 1, 0.2)
    fast = chosen_half_life(rows, np.arange(8_000), PRIORS)
    # The same rows over four times as many decisions are a swing a quarter as fast.
    slow = chosen_half_life(rows, 4 * np.arange(8_000), PRIORS)
    assert fast is not None
    assert slow is not None
    assert SHORTEST <= fast < slow


def test_what_an_alarm_had_forgotten_does_not_ask_for_forgetting() -> None:
    rows = rows_of(4_000, 2, 0.0)
    fell = (rows.arm == 0) & (np.arange(4_000) >= 2_000)
    rows = replace(rows, value=rows.value - 0.3 * fell)
    assert chosen_half_life(rows, np.arange(4_000), PRIORS) is not None
    cut = np.where((rows.arm == 0) & (np.arange(4_000) < 2_000), 1e-3, 1.0)
    assert chosen_half_life(replace(rows, weight=cut), np.arange(4_000), PRIORS) is None


@pytest.mark.parametrize(
    ("decisions", "half_lives"),
    [(0.0, ()), (499.0, ()), (500.0, (500.0,)), (2_100.0, (500.0, 1_000.0, 2_000.0))],
)
def test_half_lives_are_no_longer_than_the_log(
    decisions: float, half_lives: tuple[float, ...]
) -> None:
    assert candidates(decisions, 48) == half_lives


def test_half_lives_are_no_shorter_than_a_block_and_not_too_many() -> None:
    assert candidates(2_100.0, 3) == (1_000.0, 2_000.0)
    assert len(candidates(1e7, 100_000)) == 6


def test_few_rows_choose_nothing() -> None:
    assert chosen_half_life(rows_of(20, 3, 0.4), 100 * np.arange(20), PRIORS) is None
    assert LOG_ODDS > 0.0


def drifting(count: int) -> list[Observation]:
    rng = np.random.default_rng(4)
    rows = []
    for seq in range(count):
        x = rng.normal(size=4)
        level = 0.5 + (0.6 * seq / count - 0.3) * (1 if seq % 2 else -1)
        reward = float(np.clip(level + rng.normal(0.0, 0.05), 0.0, 1.0))
        rows.append(make_row(seq, ("small", "large")[seq % 2], x, reward=reward))
    return rows


def test_a_fit_chooses_the_half_life_that_later_rows_and_snapshots_keep_to() -> None:
    problem = make_problem(learns_half_life=True)
    rows = drifting(5_000)
    cold = init_state(problem, POLICY)
    assert cold.half_life_decisions is None
    state = refit(problem, POLICY, cold, log_rows(problem, rows))
    half_life = state.half_life_decisions
    assert half_life is not None
    later = fold(
        problem, POLICY, state, make_row(5_000 + int(half_life), "local", rows[0].features)
    )
    for before, after in zip(state.policy.arms[:2], later.policy.arms[:2], strict=True):
        kept = 0.5 ** ((later.clock - state.clock) / half_life)
        assert after.sums.weight == pytest.approx(before.sums.weight * kept)
    back = from_bytes(problem, POLICY, to_bytes(problem, POLICY, state))
    assert back.half_life_decisions == half_life
    # What an operator sets by hand holds at once.
    settled = make_problem(half_life_decisions=77.0)
    assert from_bytes(settled, POLICY, to_bytes(problem, POLICY, state)).half_life_decisions == 77.0
    # One went from .2 to .8 and the other back, all the time.
    never = refit(make_problem(), POLICY, cold, log_rows(problem, rows))
    truth = np.array([0.2, 0.8])

    def error(mean: np.ndarray) -> float:
        return float(np.abs(mean[:2] - truth).max())

    z = np.eye(1, state.basis.dimension)[0]
    learned_error = error(POLICY.beliefs(state.policy, z).mean)
    assert learned_error < 0.5 * error(POLICY.beliefs(never.policy, z).mean)
