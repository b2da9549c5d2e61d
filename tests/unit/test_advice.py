"""Advice on hand-worked numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bandit_router.advice import advise, nothing_escalates, rewards_needed
from bandit_router.traffic import (
    ModelSums,
    SegmentSums,
    best_model,
    merged,
    quantile,
    savings,
    seconds_at,
    total,
)

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def sums(model: str, **values: Any) -> ModelSums:
    """A model with 1,000 judged answers of 1,000 requests, unless said otherwise."""
    usual: dict[str, Any] = {
        "considered": 2000,
        "eligible": 2000,
        "decisions": 1000,
        "escalations": 500 if model == "large" else 0,
        "outcomes": 1000,
        "answers": 1000,
        "costed": 1000,
        "cost_usd": 10.0 if model == "large" else 0.1,
        "costed_predicted_usd": 10.0 if model == "large" else 0.1,
        "predicted_cost_usd": 20.0 if model == "large" else 0.2,
        "predicted_quality": 1800.0 if model == "large" else 1500.0,
        "rewards": 1000,
        "reward_sum": 900.0 if model == "large" else 750.0,
        "low_rewards": 50 if model == "large" else 200,
        "rewarded_predicted": 900.0 if model == "large" else 750.0,
    }
    return ModelSums(model, **{**usual, **values})


def kinds(*models: ModelSums, segments: tuple[SegmentSums, ...] = (), **last: datetime) -> Any:
    chosen = {"small": NOW, "large": NOW, **last}
    found = advise(models, segments, chosen, ("small", "large"), NOW, WEEK)
    return {advice.kind: advice for advice in found}


def test_good_traffic_needs_no_advice() -> None:
    assert list(kinds(sums("small"), sums("large"))) == ["all_well"]


def test_no_traffic_is_said() -> None:
    assert list(kinds(ModelSums("small"))) == ["no_traffic"]


def test_more_than_thirty_percent_bad_answers_by_the_cheap_model_is_too_greedy_and_says_where() -> (
    None
):
    segments = (
        SegmentSums("task=math", "small", 100, 100, 0.1, 40, 12.0, 30),
        SegmentSums("task=chat", "small", 100, 100, 0.1, 100, 80.0, 10),
        SegmentSums("task=rare", "small", 19, 19, 0.1, 19, 0.0, 19),
        SegmentSums("task=law", "large", 100, 100, 0.1, 100, 10.0, 90),
    )
    assert "too_greedy" not in kinds(sums("small", low_rewards=300), sums("large"))
    advice = kinds(sums("small", low_rewards=301), sums("large"), segments=segments)["too_greedy"]
    assert advice.severity == "warning"
    assert "30 % of the answers by small" in advice.headline
    assert "301 of 1000" in advice.detail
    assert "task math (75 % of 40)" in advice.detail
    for other in ("chat", "rare", "law"):
        assert other not in advice.detail


def test_a_dear_model_that_is_no_better_is_too_conservative() -> None:
    worse = sums("large", reward_sum=740.0, rewarded_predicted=900.0)
    # Expected on all requests: .9 + (.74 − .9) = .74 for large, .75 for small.
    advice = kinds(sums("small"), worse)["too_conservative"]
    assert "0.740" in advice.detail
    assert "0.750" in advice.detail
    assert "-0.010" in advice.detail


def test_a_dear_model_that_only_gets_the_hard_requests_is_not_blamed() -> None:
    # Its own answers are worse than the cheap model's, as was predicted of those requests.
    hard = sums("large", reward_sum=700.0, rewarded_predicted=700.0)
    assert "too_conservative" not in kinds(sums("small"), hard)


def test_few_escalations_are_told_from_none() -> None:
    def told(escalations: int, decisions: int = 1000) -> bool:
        pair = (
            sums("small", decisions=decisions - escalations),
            sums("large", decisions=escalations, escalations=escalations),
        )
        return bool(nothing_escalates(pair))

    assert told(9)
    assert not told(10)
    assert not told(0, decisions=199)
    assert not nothing_escalates((sums("small"),))


def test_a_model_untried_for_a_week_is_named() -> None:
    late = NOW - timedelta(days=7, seconds=1)
    assert "not for 7 days" in kinds(sums("small"), sums("large"), large=late)["untried"].headline
    assert "untried" not in kinds(sums("small"), sums("large"), large=NOW - WEEK)
    never = advise([sums("small")], (), {"small": NOW}, ("small", "large"), NOW, WEEK)
    assert any(a.kind == "untried" and "large was never tried" in a.headline for a in never)


def test_the_rewards_needed_are_those_of_a_comparison_of_two_means() -> None:
    # 2 · .25 · (2.801585 / .1)² = 392.4; 2 · .09 · 784.89 = 141.3
    assert rewards_needed(0.5) == 393
    assert rewards_needed(0.9) == 142


def test_sparse_feedback_says_how_much_is_needed_and_how_long_it_takes() -> None:
    few: dict[str, Any] = {"rewards": 10, "reward_sum": 5.0, "rewarded_predicted": 5.0}
    advice = kinds(sums("small", **few), sums("large", **few))["sparse_feedback"]
    assert advice.severity == "warning"
    assert "20 of 2000 answers" in advice.headline
    # 393 − 10 each; 766 at 20 a week are 268 days.
    assert "383 more of small, 383 more of large" in advice.detail
    assert "268 days" in advice.detail


def test_a_model_that_others_step_in_for_is_named() -> None:
    assert "failing" not in kinds(sums("small", fallbacks=60, failures=40), sums("large"))
    advice = kinds(sums("small", fallbacks=61, failures=40), sums("large"))["failing"]
    assert "small fails in 10 %" in advice.headline


def test_savings_compare_bills_with_what_the_best_model_would_have_cost() -> None:
    # Large is best: $20 predicted for 2,000 requests, its own bills 20 % above prediction:
    # $0.012 a request, $24 for the 2,000 that were billed; the router paid 12 + 0.1.
    found = savings([sums("small"), sums("large", cost_usd=12.0)])
    assert found is not None
    assert found.best == "large"
    assert found.baseline_usd == pytest.approx(24.0)
    assert found.share == pytest.approx(1.0 - 12.1 / 24.0)
    assert savings([sums("small", costed=0), sums("large", costed=0)]) is None


def test_a_prediction_is_corrected_only_by_enough_rows() -> None:
    assert sums("large", costed=29, cost_usd=99.0).always_cost_usd == pytest.approx(0.01)
    assert sums("large", rewards=29, reward_sum=0.0).always_quality == pytest.approx(0.9)
    assert sums("large", rewards=30, reward_sum=24.0, rewarded_predicted=27.0).always_quality == (
        pytest.approx(0.8)
    )
    best = best_model([sums("small"), sums("large")])
    assert best is not None
    assert best.model == "large"


def test_sums_of_modes_merge_into_models() -> None:
    small, large = merged([sums("small"), sums("large"), sums("small", decisions=5)])
    assert (small.model, small.decisions, large.decisions) == ("small", 1005, 1000)
    assert total([small, large]).decisions == 2005


def test_quantiles_of_a_histogram() -> None:
    bins = {10: 50, 20: 50}
    assert quantile({}, 0.5) is None
    assert quantile(bins, 0.25) == pytest.approx(10.5)
    assert quantile(bins, 0.95) == pytest.approx(20.9)
    # Four bins to an octave from a millisecond on: bin 40 begins at 1.024 s.
    assert seconds_at(40.0, 0.001, 4) == pytest.approx(1.024)
