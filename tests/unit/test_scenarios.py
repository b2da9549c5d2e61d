"""Worlds that change: what each phase holds, and what is reported of it, on made-up matrices."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.types import FloatArray
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.scenarios import (
    drift_report,
    failure_report,
    onboarding,
    onboarding_report,
    price_drift,
    run_phased,
    silent_failure,
    with_budget,
)
from simulations.scenarios.phased import (
    WINDOW,
    PhasedStudy,
    PhaseTrace,
    mean_share,
    median_steps,
    phase_reports,
    run_phased_seed,
    steps_until,
)
from simulations.simulate import Study, make_study, named_policy

MODELS = ("cheap", "good", "dear")


def world(count: int = 320) -> OutcomeMatrix:
    """Qualities .5, .9 and .95 at $1e-4, $1e-3 and $1e-2, each with a little noise."""
    rng = np.random.default_rng(1)
    quality = np.array([0.5, 0.9, 0.95]) + rng.normal(0.0, 0.02, (count, 3))
    nothing = np.full((count, 3), np.nan)
    return OutcomeMatrix(
        prompt_ids=tuple(str(i) for i in range(count)),
        prompts=tuple(f"Question {i}?" for i in range(count)),
        category=("",) * count,
        split=tuple("val" if i < count // 4 else "test" for i in range(count)),
        models=MODELS,
        quality=np.clip(quality, 0.0, 1.0),
        cost_usd=np.array([1e-4, 1e-3, 1e-2]) * np.exp(rng.normal(0.0, 0.1, (count, 3))),
        latency_s=nothing,
        input_tokens=np.full((count, 3), 10.0),
        output_tokens=nothing,
    )


def study_of(policy: str = "thompson", budget_usd: float | None = 1e-3) -> Study:
    return make_study(
        world(),
        policy=policy,
        budget_usd=budget_usd,
        warmup_split="val",
        score_split="test",
        text="none",
        metadata=(),
    )


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of()


def outcomes(phased: PhasedStudy, arm: int) -> tuple[FloatArray, FloatArray]:
    """Quality and dollars of an arm in the altered half of the stacked matrix."""
    altered = slice(phased.altered_from, None)
    return phased.study.matrix.quality[altered, arm], phased.study.matrix.cost_usd[altered, arm]


def test_a_failed_model_is_worth_what_is_said_and_costs_nothing(study: Study) -> None:
    phased = silent_failure(study, "good", quality=0.6)
    quality, cost = outcomes(phased, 1)
    assert (quality == 0.6).all()
    assert (cost == 0.0).all()
    size = phased.altered_from
    np.testing.assert_array_equal(phased.study.matrix.quality[:size], study.matrix.quality)
    np.testing.assert_array_equal(phased.study.matrix.cost_usd[:size], study.matrix.cost_usd)
    np.testing.assert_array_equal(
        phased.study.matrix.quality[size:, [0, 2]], study.matrix.quality[:, [0, 2]]
    )
    np.testing.assert_array_equal(phased.study.features[size:], study.features)


def test_a_price_drop_touches_dollars_alone(study: Study) -> None:
    phased = price_drift(study, "dear", factor=0.01)
    quality, cost = outcomes(phased, 2)
    np.testing.assert_array_equal(quality, study.matrix.quality[:, 2])
    np.testing.assert_allclose(cost, 0.01 * study.matrix.cost_usd[:, 2])


@pytest.mark.parametrize(
    ("variant", "price", "loss"),
    [("recorded", 1.0, 0.0), ("cheap", 0.1, 0.0), ("dear", 20.0, 0.0), ("bad", 0.1, 0.3)],
)
def test_a_newcomer_is_what_its_variant_says(
    study: Study, variant: str, price: float, loss: float
) -> None:
    phased = onboarding(study, "good", variant)
    quality, cost = outcomes(phased, 1)
    np.testing.assert_allclose(cost, price * study.matrix.cost_usd[:, 1])
    np.testing.assert_allclose(quality, study.matrix.quality[:, 1] - loss)
    assert phased.trained.tolist() == [True, False, True]
    assert phased.phases[0].offered.all()
    absent = onboarding(study, "good", variant, joins=False)
    assert absent.phases[0].offered.tolist() == [True, False, True]


def test_the_third_phase_passes_over_the_first_ones_prompts() -> None:
    # Random choices do not depend on outcomes: what is left is the order of the prompts.
    phased = silent_failure(study_of("fixed:dear", None), "good")
    normal, failed, restored = run_phased_seed(phased, 3)
    assert [trace.arm.size for trace in (normal, failed, restored)] == [80, 80, 80]
    assert sorted(normal.reward) == sorted(restored.reward)
    assert normal.reward.tolist() != restored.reward.tolist()
    assert not set(normal.reward) & set(failed.reward)


def test_a_model_that_is_not_offered_is_never_chosen_nor_reckoned_with(study: Study) -> None:
    order = np.arange(60)
    available = np.ones((60, 3), dtype=np.bool_)
    available[:30, 1] = False
    trace, state = replay(
        study.matrix,
        study.features,
        order,
        study.problem,
        named_policy("thompson", MODELS),
        study.exploration,
        np.random.default_rng(0),
        available=available,
    )
    assert not (trace.arm[:30] == 1).any()
    assert (trace.arm[30:] == 1).any()
    assert state.pulls.sum() == 60


def test_offering_every_model_replays_to_the_very_numbers_of_the_plain_replay(
    study: Study,
) -> None:
    def run(**more: object) -> tuple[list[int], list[float], list[float]]:
        trace, _ = replay(
            study.matrix,
            study.features,
            np.arange(150),
            study.problem,
            named_policy("thompson", MODELS),
            study.exploration,
            np.random.default_rng(5),
            **more,  # type: ignore[arg-type]
        )
        return trace.arm.tolist(), trace.propensity.tolist(), trace.price_of_dollar.tolist()

    assert run() == run(available=np.ones((150, 3), dtype=np.bool_))


def test_the_same_seed_gives_the_same_phases_in_any_process(study: Study) -> None:
    phased = silent_failure(study, "good")
    here = run_phased(phased, [4, 5], 1)
    there = run_phased(phased, [4, 5], 2)
    for one, other in zip(here, there, strict=True):
        for trace, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(trace.arm, same.arm)
            np.testing.assert_array_equal(trace.cost_usd, same.cost_usd)


def test_phases_are_reported_beside_the_static_mixes_of_their_own_outcomes(study: Study) -> None:
    phased = silent_failure(study, "good", quality=0.6)
    seeds = run_phased(phased, [0], 1)
    normal, failed, restored = phase_reports(phased, seeds)
    assert normal["reward"] == pytest.approx(float(seeds[0][0].reward.mean()))
    assert normal["spend_ratio"] == pytest.approx(normal["cost_usd"] / 1e-3)
    assert normal["reward_ci95"] is None
    assert normal["share_after_200"] is None
    # Normally a mix of the cheap model, .5 at $1e-4, and the good one, .9 at $1e-3; failed, the
    # good one is free at .6 and the rest goes to the dear one.
    mixed = 0.5 + 0.4 * (normal["cost_usd"] - 1e-4) / 9e-4
    assert normal["static_mix"] == pytest.approx(min(mixed, 0.9), abs=0.015)
    assert failed["static_mix"] >= 0.6
    assert failed["static_mix_without"] < failed["static_mix"]
    report = failure_report(phased, seeds)
    assert [each["phase"] for each in report["phases"]] == ["normal", "failed", "restored"]
    assert restored["phase"] == "restored"


def test_a_price_drop_is_taken_up_and_a_newcomer_adopted(study: Study) -> None:
    drift = drift_report(
        with_budget(price_drift(study, "dear", factor=0.001), None),
        [(trace(0.0), trace(1.0), trace(0.0), trace(0.0))[:3]],
    )
    assert drift["steps_to_half"] == WINDOW
    joined = onboarding(study, "dear", "recorded")
    adopted = onboarding_report(joined, [(trace(1.0),)], [(trace(0.0),)])
    assert adopted["share_settled"] == 1.0
    assert adopted["steps_to_adopt"] == WINDOW
    assert adopted["reward_gained"] == pytest.approx(1.0)
    refused = onboarding_report(joined, [(trace(0.0),)], [(trace(0.0),)])
    assert refused["steps_to_adopt"] is None


def trace(share: float, count: int = 90) -> PhaseTrace:
    """Arm 2 throughout, or arm 0; the reward is 1 with arm 2 and else 0."""
    arm = np.full(count, 2 if share else 0)
    return PhaseTrace(arm=arm, reward=np.full(count, share), cost_usd=np.full(count, 1e-3))


def test_steps_until_a_share_by_hand() -> None:
    arm = np.concatenate([np.zeros(100, dtype=np.int64), np.ones(100, dtype=np.int64)])
    nothing = np.zeros(200)
    late = PhaseTrace(arm, nothing, nothing)
    # Half of the last 50 are of arm 1 after 25 of them.
    assert steps_until(late, 1, 0.5) == 125
    assert steps_until(late, 1, 1.0) == 150
    assert steps_until(late, 0, 1.0) == WINDOW
    assert steps_until(late, 2, 0.1) is None
    assert mean_share([late], 1, 100) == 1.0
    assert mean_share([late], 1, 500) is None


def test_the_median_is_unknown_when_half_never_got_there() -> None:
    assert median_steps([10, 20, None]) == 20.0
    assert median_steps([10, None, None]) is None
