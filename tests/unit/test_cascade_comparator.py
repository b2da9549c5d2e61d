"""A cascade on recorded outcomes: who is asked second, and who pays for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit_router.errors import DataError
from simulations.cascade import TRIALS, run_cascade
from simulations.matrix import OutcomeMatrix
from simulations.simulate import make_study, run_study

WEAK, STRONG = 0, 1
COST_USD = np.array([1e-4, 1e-3])


def matrix(count: int = 400, **changes: Any) -> OutcomeMatrix:
    """Half of the prompts are hard, and the cheap model's answers to those are worth nothing."""
    hard = np.arange(count) % 2 == 1
    none = np.full((count, 2), np.nan)
    values: dict[str, Any] = {
        "models": ("weak", "strong"),
        "prompt_ids": tuple(str(i) for i in range(count)),
        "prompts": ("Add the numbers.",) * count,
        "category": ("",) * count,
        "split": ("",) * count,
        "quality": np.stack([np.where(hard, 0.0, 1.0), np.ones(count)], axis=1),
        "cost_usd": np.tile(COST_USD, (count, 1)),
        "latency_s": none,
        "input_tokens": none,
        "output_tokens": none,
    }
    return OutcomeMatrix(**{**values, **changes})


def run(budget_usd: float | None, check_sd: float = 0.0, **changes: Any) -> Any:
    data = matrix(**changes)
    order = np.random.default_rng(1).permutation(len(data.prompts))
    rng = np.random.default_rng(2)
    return order, run_cascade(data, order, budget_usd, rng, check_sd=check_sd)


def test_both_answers_are_paid_for_and_the_last_one_counts() -> None:
    order, trace = run(None)
    hard = order % 2 == 1
    late = np.arange(order.size) >= 2 * TRIALS
    assert trace.escalated[late].tolist() == hard[late].tolist()
    assert trace.arm[late].tolist() == np.where(hard, STRONG, WEAK)[late].tolist()
    assert trace.reward[late].min() == 1.0
    paid = np.where(hard, COST_USD.sum(), COST_USD[WEAK])
    np.testing.assert_allclose(trace.cost_usd[late], paid[late])


def test_the_check_is_as_strict_as_the_budget_allows() -> None:
    for budget_usd in (2e-4, 4e-4):
        _, trace = run(budget_usd, check_sd=0.2, count=4_000)
        assert trace.cost_usd.mean() == pytest.approx(budget_usd, rel=0.03)
        # Those whose answers seem worth least are asked for again: all of them are hard ones.
        assert trace.reward.mean() == pytest.approx(0.5 + trace.escalated.mean(), abs=0.01)


def test_a_check_that_sees_nothing_gains_no_more_than_chance() -> None:
    _, trace = run(4e-4, check_sd=1e3, count=4_000)
    share = trace.escalated.mean()
    assert trace.reward.mean() == pytest.approx(0.5 + 0.5 * share, abs=0.02)


def test_a_prompt_that_one_model_answered_is_asked_of_that_one() -> None:
    data = matrix()
    data.quality[::2, WEAK] = np.nan
    order = np.arange(400)
    trace = run_cascade(data, order, None, np.random.default_rng(0))
    assert set(trace.arm[::2].tolist()) == {STRONG}
    assert not trace.escalated[::2].any()
    data.quality[1::2, STRONG] = np.nan
    with pytest.raises(DataError, match="no prompt has the outcomes of two"):
        run_cascade(data, order, None, np.random.default_rng(0))


def test_it_stands_beside_the_policies_of_a_simulation() -> None:
    study = make_study(
        matrix(),
        policy="cascade",
        budget_usd=4e-4,
        warmup_split=None,
        score_split=None,
        text="none",
        metadata=(),
    )
    summary = run_study(study, range(2), jobs=1)
    assert summary.policy == "cascade"
    assert summary.as_json()["utilisation"]["mean"] == pytest.approx(1.0, abs=0.1)
    assert summary.shares["strong"] == pytest.approx(0.3, abs=0.06)
