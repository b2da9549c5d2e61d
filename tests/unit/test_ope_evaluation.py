"""What the estimators and their intervals must give, on worlds whose truth is known."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandit_router.errors import DataError
from bandit_router.ope import (
    ESTIMATORS,
    METHODS,
    Limits,
    LoggedRounds,
    Options,
    RefusalReason,
    Tradeoff,
    difference,
    evaluate,
    evaluate_by_round,
    fixed,
    logged_rounds,
    logging_policy,
    mix,
    round_values,
)
from bandit_router.ope import blocks as ope_blocks
from bandit_router.ope.contributions import Contributions, value_of
from bandit_router.types import FloatArray

ALL = Limits(least_effective_sample_size=0.0, largest_weight=np.inf, most_unsupported=1.0)
QUICK = Options(outcomes=("reward",), resamples=50)


def world(n: int, seed: int, *, missing: float = 0.0) -> tuple[LoggedRounds, FloatArray]:
    """A log of a random policy over three arms, and the true mean reward (n, 3) of each."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4))
    quality = np.clip(0.5 + features @ rng.normal(size=(4, 3)) * 0.1, 0.05, 0.95)
    pmf = np.exp(rng.normal(size=(n, 3)))
    pmf = 0.85 * pmf / pmf.sum(axis=1, keepdims=True) + 0.05
    arm = np.minimum((pmf.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1), 2)
    reward = (rng.random(n) < quality[np.arange(n), arm]).astype(np.float64)
    reward[rng.random(n) < missing] = np.nan
    cost = 0.001 * (arm + 1.0) * np.exp(0.1 * rng.normal(size=n))
    return (
        logged_rounds(
            arms=("a", "b", "c"),
            arm=arm,
            pmf=pmf,
            reward=reward,
            features=features,
            cost_usd=cost,
            latency_s=1000.0 * cost,
            segment=np.where(features[:, 0] > 0.0, "hard", "easy").tolist(),
        ),
        quality,
    )


def contributions(n: int, seed: int, **changes: Any) -> Contributions:
    rng = np.random.default_rng(seed)
    parts: dict[str, Any] = {
        "weight": rng.exponential(size=n),
        "seen": np.ones(n),
        "outcome": rng.random(n),
        "predicted": rng.random(n),
        "predicted_target": rng.random(n),
        "uniform": rng.random(n),
        "weight_bound": 20.0,
    }
    return Contributions(**(parts | changes))


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_unbiased_to_the_last_digit_on_a_bandit_small_enough_to_enumerate(name: str) -> None:
    contexts, logged = [0.4, 0.6], np.array([[0.3, 0.7], [0.8, 0.2]])
    target, reward = np.array([[0.9, 0.1], [0.25, 0.75]]), np.array([[0.2, 0.9], [0.5, 0.1]])
    model = np.array([[0.7, 0.3], [0.0, 1.0]])
    truth = sum(contexts[x] * target[x] @ reward[x] for x in (0, 1))
    mean = 0.0
    for rounds in itertools.product(itertools.product((0, 1), (0, 1)), repeat=2):
        x, a = (np.array(part) for part in zip(*rounds, strict=True))
        chance = np.prod(np.array(contexts)[x] * logged[x, a])
        each = contributions(
            2,
            0,
            weight=target[x, a] / logged[x, a],
            outcome=reward[x, a],
            predicted=model[x, a],
            predicted_target=(target[x] * model[x]).sum(axis=1),
        )
        mean += chance * value_of(ESTIMATORS[name], each)
    assert mean == pytest.approx(truth, abs=1e-14)


def test_the_logging_policy_itself_is_worth_the_mean_that_was_logged() -> None:
    log, _ = world(500, 1)
    found = evaluate(log, {"itself": logging_policy()}, QUICK)["itself"]
    for name in ("ips", "snips", "replay"):
        assert found.estimate(estimator=name).value == pytest.approx(log.reward.mean(), abs=1e-12)
    assert found.diagnostics.effective_sample_size == pytest.approx(500)
    assert found.diagnostics.weight_bound == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["dr", "switch_dr", "dr_os"])
def test_without_weights_doubly_robust_is_the_direct_method(name: str) -> None:
    each = contributions(50, 2, weight=np.zeros(50))
    assert value_of(ESTIMATORS[name], each) == value_of(ESTIMATORS["dm"], each)


@pytest.mark.parametrize("name", ["switch_dr", "dr_os"])
def test_thresholds_lead_from_the_direct_method_to_doubly_robust(name: str) -> None:
    each = contributions(50, 3)
    direct, doubly = (value_of(ESTIMATORS[other], each) for other in ("dm", "dr"))
    assert value_of(ESTIMATORS[name], each, 1e-14) == pytest.approx(direct, abs=1e-9)
    assert value_of(ESTIMATORS[name], each, 1e14) == pytest.approx(doubly, abs=1e-9)
    assert value_of(ESTIMATORS[name], each, np.inf) == doubly


def test_hand_worked_values() -> None:
    each = Contributions(
        weight=np.array([2.0, 0.5]),
        seen=np.ones(2),
        outcome=np.array([1.0, 0.4]),
        predicted=np.array([0.5, 0.4]),
        predicted_target=np.array([0.6, 0.2]),
        uniform=np.array([0.1, 0.9]),
        weight_bound=4.0,
    )
    for name, expected in {
        "ips": 1.1,
        "snips": 2.2 / 2.5,
        "dm": 0.4,
        "dr": 0.4 + 0.5,
        "sndr": 0.4 + 1.0 / 2.5,
        "replay": 1.0,
    }.items():
        assert value_of(ESTIMATORS[name], each) == pytest.approx(expected), name
    assert value_of(ESTIMATORS["clipped_ips"], each, 1.0) == pytest.approx(0.6)
    assert value_of(ESTIMATORS["switch_dr"], each, 1.0) == pytest.approx(0.4)
    assert value_of(ESTIMATORS["dr_os"], each, 4.0) == pytest.approx(0.4 + 0.25)


def test_estimates_lie_near_the_truth_and_doubly_robust_is_surer_than_ips() -> None:
    log, quality = world(4000, 4)
    found = evaluate(log, {"b": fixed("b")}, Options(tradeoff=Tradeoff(price_of_dollar=50.0)))["b"]
    truth = quality[:, 1].mean()
    for each in found.estimates:
        if each.outcome == "reward" and each.refused is None and each.estimator != "dm":
            assert each.interval is not None
            assert each.interval[0] < truth < each.interval[1], each
    ips, dr = (found.estimate(estimator=name).standard_error for name in ("ips", "dr"))
    # The rewards are tosses of a coin: most of their spread no model explains.
    assert dr < 0.85 * ips
    utility = found.estimate("utility").value
    parts = found.estimate("reward").value - 50.0 * found.estimate("cost_usd").value
    assert utility == pytest.approx(parts, abs=1e-9)
    assert found.estimate("cost_usd").value == pytest.approx(0.002, rel=0.02)


def test_a_difference_is_surer_than_the_values_it_is_of() -> None:
    log, quality = world(3000, 5)
    found = evaluate(log, {"some": mix([0.4, 0.3, 0.3]), "more": mix([0.5, 0.2, 0.3])}, QUICK)
    value, (low, high) = difference(found["more"], found["some"])
    truth = (quality @ [0.1, -0.1, 0.0]).mean()
    assert low <= value <= high
    assert abs(value - truth) < 0.02
    whole = found["more"].estimate().interval
    assert whole is not None
    assert high - low < 0.5 * (whole[1] - whole[0])


def test_what_the_log_cannot_say_is_refused_with_what_would_help() -> None:
    log, _ = world(200, 6)
    short = evaluate(log, {"b": fixed("b")}, QUICK)["b"]
    assert short.refused is not None
    assert short.refused.reason is RefusalReason.EFFECTIVE_SAMPLE_SIZE
    assert short.refused.arm == "b"
    assert short.refused.more_decisions is not None
    assert short.refused.more_decisions > 0
    assert all(np.isnan(each.value) and each.interval is None for each in short.estimates)
    with pytest.raises(DataError, match="refused"):
        difference(short, short)

    pmf = np.tile([0.5, 0.5, 0.0], (300, 1))
    lone = logged_rounds(arms=("a", "b", "c"), arm=np.arange(300) % 2, pmf=pmf, reward=np.ones(300))
    gone = evaluate(lone, {"c": fixed("c")}, QUICK)["c"].refused
    assert gone is not None
    assert (gone.reason, gone.arm) == (RefusalReason.NO_SUPPORT, "c")

    pmf = np.tile([0.5, 0.5, 0.0], (4000, 1))
    pmf[0] = [0.01, 0.99, 0.0]
    heavy = logged_rounds(
        arms=("a", "b", "c"), arm=np.arange(4000) % 2, pmf=pmf, reward=np.ones(4000)
    )
    why = evaluate(heavy, {"a": fixed("a")}, QUICK)["a"].refused
    assert why is not None
    assert why.reason is RefusalReason.LARGEST_WEIGHT
    assert "0.02" in why.message


def test_heavy_weights_that_have_not_come_yet_are_reckoned_with() -> None:
    # Arm "a" is worth one round in a thousand here and there, and luck has not drawn it.
    pmf = np.tile([0.5, 0.5], (2000, 1))
    pmf[::4] = [0.001, 0.999]
    arm = np.where(pmf[:, 0] < 0.5, 1, np.arange(2000) % 2)
    lucky = logged_rounds(arms=("a", "b"), arm=arm, pmf=pmf, reward=np.full(2000, 0.5))
    found = evaluate(lucky, {"a": fixed("a")}, QUICK)["a"]
    assert found.diagnostics.effective_sample_size == pytest.approx(500)
    # Σ E[w²] = 500 / 0.001 + 1500 / 0.5.
    size = found.diagnostics.expected_effective_sample_size
    assert size == pytest.approx(2000**2 / 503_000)
    assert found.refused is not None
    assert found.refused.reason is RefusalReason.EFFECTIVE_SAMPLE_SIZE


def test_an_outcome_that_was_never_seen_is_refused_alone() -> None:
    log, _ = world(1000, 7)
    blind = replace(log, cost_usd=np.full(1000, np.nan))
    found = evaluate(blind, {"b": fixed("b")}, Options(resamples=20))["b"]
    assert found.estimate("reward").refused is None
    refused = found.estimate("cost_usd").refused
    assert refused is not None
    assert refused.reason is RefusalReason.NOT_OBSERVED


def test_missing_feedback_is_weighed_out_and_its_range_is_told() -> None:
    rng = np.random.default_rng(8)
    log, quality = world(8000, 8)
    # Feedback comes more often where the first feature is high, which also moves the reward.
    heard = rng.random(8000) < np.where(log.features[:, 0] > 0.0, 0.9, 0.3)
    partial = replace(log, reward=np.where(heard, log.reward, np.nan))
    found = evaluate(partial, {"b": fixed("b")}, QUICK)["b"]
    truth = quality[:, 1].mean()
    for name in ("ips", "snips", "dr"):
        each = found.estimate(estimator=name)
        assert abs(each.value - truth) < 4.0 * each.standard_error, name
    assert found.feedback.rate == pytest.approx(0.6, abs=0.03)
    assert set(found.feedback.by_arm) == {"a", "b", "c"}
    told = found.sensitivity
    assert told is not None
    assert told.worst_low <= told.low < found.estimate().value < told.high <= told.worst_high
    assert told.missing_share == pytest.approx(0.4, abs=0.05)
    assert told.high - told.low == pytest.approx(0.2 * told.missing_share, rel=1e-6)


def test_feedback_that_is_still_on_its_way_is_told() -> None:
    log, _ = world(2000, 9)
    late = log.reward.copy()
    late[-150:] = np.nan
    found = evaluate(replace(log, reward=late), {"b": fixed("b")}, QUICK)["b"]
    assert any("on its way" in each for each in found.feedback.warnings)


def test_wrong_propensities_are_told() -> None:
    rng = np.random.default_rng(10)
    arm = (rng.random(4000) < 0.5).astype(np.int64)
    lying = logged_rounds(
        arms=("a", "b"), arm=arm, pmf=np.tile([0.8, 0.2], (4000, 1)), reward=np.ones(4000)
    )
    found = evaluate(lying, {"b": fixed("b")}, QUICK)["b"]
    assert any("average" in each for each in found.diagnostics.warnings)
    assert any("were drawn in" in each for each in found.diagnostics.warnings)


def test_segments_add_up_to_the_whole() -> None:
    log, _ = world(3000, 11)
    found = evaluate(log, {"b": fixed("b")}, QUICK)["b"]
    assert [each.segment for each in found.segments] == ["easy", "hard"]
    whole = sum(each.n * each.value for each in found.segments) / found.n
    assert whole == pytest.approx(found.estimate().value, abs=1e-12)


def test_a_log_read_in_pieces_gives_the_very_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ope_blocks, "BLOCK_ROUNDS", 256)
    log, _ = world(1500, 12, missing=0.2)
    whole = evaluate(log, {"b": fixed("b")}, Options(resamples=30, limits=ALL))["b"]
    for size in (7, 256, 1000):
        pieces = [log.rows(slice(i, i + size)) for i in range(0, 1500, size)]
        streamed = evaluate(
            lambda pieces=pieces: pieces,  # type: ignore[misc]
            {"b": fixed("b")},
            Options(resamples=30, limits=ALL),
        )["b"]
        assert repr(streamed.estimates) == repr(whole.estimates)
        assert repr(streamed.diagnostics) == repr(whole.diagnostics)
        assert repr(streamed.segments) == repr(whole.segments)


def test_unknown_names_and_an_empty_log_are_refused() -> None:
    log, _ = world(50, 13)
    with pytest.raises(DataError, match="no rounds"):
        evaluate(log.rows(slice(0, 0)), {"b": fixed("b")})
    with pytest.raises(DataError, match="no estimator 'magic'"):
        Options(estimators=("magic",))
    with pytest.raises(DataError, match="no outcome 'speed'"):
        Options(outcomes=("speed",))
    with pytest.raises(DataError, match="level"):
        Options(level=95.0)
    with pytest.raises(DataError, match="no estimate"):
        evaluate(log, {"b": fixed("b")}, QUICK)["b"].estimate("cost_usd")


@pytest.mark.parametrize(("count", "refused"), [(380, True), (420, False)])
def test_replay_needs_two_hundred_accepted_decisions(count: int, refused: bool) -> None:
    rng = np.random.default_rng(0)
    # Every second decision chose the target's arm at even odds, so exactly half is accepted.
    log = logged_rounds(
        arms=("a", "b"),
        arm=np.arange(count) % 2,
        pmf=np.full((count, 2), 0.5),
        reward=rng.random(count),
    )
    found = evaluate(log, {"a": fixed("a")})["a"]
    replayed = found.estimate("reward", "replay")
    assert (replayed.refused is not None) is refused
    assert found.estimate("reward", "dr").refused is None


def test_terms_by_round_come_with_the_evaluation_and_are_its_own() -> None:
    log, _ = world(700, 8)
    targets = {"mix": mix([0.2, 0.3, 0.5])}
    options = Options(outcomes=("reward",), methods=("bootstrap",), resamples=50)
    found, terms = evaluate_by_round(log, targets, options)
    apart = round_values(log, targets, options)
    assert np.array_equal(terms.values["mix", "reward"], apart.values["mix", "reward"])
    assert np.array_equal(terms.predicted["reward"], apart.predicted["reward"])
    estimate = found["mix"].estimate()
    assert terms.values["mix", "reward"].mean() == pytest.approx(estimate.value)
    # Fewer methods change nothing of those that are left.
    assert {each.method for each in found["mix"].estimates} == {"bootstrap"}
    everything = evaluate(log, targets, Options(outcomes=("reward",), resamples=50))["mix"]
    assert everything.estimate() == estimate
    assert {each.method for each in everything.estimates} == set(METHODS)


def test_a_difference_is_widened_where_heavy_weights_have_not_come_yet() -> None:
    log, _ = world(3000, 5)
    found = evaluate(log, {"some": mix([0.4, 0.3, 0.3]), "more": mix([0.5, 0.2, 0.3])}, QUICK)
    lucky = replace(
        found["more"],
        diagnostics=replace(
            found["more"].diagnostics,
            expected_effective_sample_size=found["more"].diagnostics.effective_sample_size / 4.0,
        ),
    )
    value, (low, high) = difference(found["more"], found["some"])
    same, (lower, higher) = difference(lucky, found["some"])
    assert same == value
    assert value - lower == pytest.approx(2.0 * (value - low))
    assert higher - value == pytest.approx(2.0 * (high - value))


def test_a_log_of_two_decisions_is_refused_in_peace() -> None:
    # Of so few, some resamples are empty; no warning comes of that.
    log = logged_rounds(arms=("a", "b"), arm=[0, 1], pmf=[[0.5, 0.5]] * 2, cost_usd=[0.1, 0.2])
    found = evaluate(log, {"a": fixed("a")}, Options(resamples=400))["a"]
    assert found.refused is not None
    assert found.refused.reason is RefusalReason.EFFECTIVE_SAMPLE_SIZE
    assert all(each.interval is None for each in found.estimates)
