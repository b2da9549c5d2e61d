"""Feedback that is late, rare, coarse, one-sided or false, and what becomes of the router."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_scenarios import study_of

from bandit_router.config import FeedbackConfig
from bandit_router.errors import DataError
from simulations.posting import Ears, Posting
from simulations.scenarios.feedback import FEEDBACK, NEVER, POISON, poisoned
from simulations.scenarios.outage import outage
from simulations.scenarios.phased import run_phased_seed
from simulations.scenarios.repeated import (
    Repeated,
    most_moved,
    repeated_report,
    run_repeated,
    shifted,
)
from simulations.scenarios.suite import NAMES, SuitePlan, run_suite, strong_arm, usual_budget
from simulations.scenarios.traffic_shift import traffic_shift

TRUTH = np.full((20_000, 3), (0.2, 0.5, 0.9))


def test_the_ways_of_giving_feedback_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    step = np.arange(TRUTH.shape[0])[:, None]
    told = {name: make(TRUTH, rng) for name, make in FEEDBACK.items()}
    assert (told["stationary"].step == step + 1).all()
    late = told["delayed"].step - step
    assert (late.min(), late.max()) == (2, 10_000)
    assert np.median(late) == pytest.approx(100.0, rel=0.1)
    for name in ("sparse", "scarce"):
        assert (told[name].step != NEVER).mean() == pytest.approx(0.01, abs=0.002)
    scarce = told["scarce"].step
    assert ((scarce - step)[scarce != NEVER] == 1_001).all()
    for name in ("binary", "scarce", "biased"):
        assert set(np.unique(told[name].posting.value)) == {0.0, 1.0}
    np.testing.assert_allclose(told["binary"].posting.value.mean(axis=0), TRUTH[0], atol=0.02)
    # Of a good model's answers hardly any is spoken of, and what is said is mostly bad.
    spoken = told["biased"].step != NEVER
    np.testing.assert_allclose(spoken.mean(axis=0), [0.82, 0.55, 0.19], atol=0.02)


def test_a_poisoned_key_lies_about_two_models_on_a_twentieth_of_the_requests() -> None:
    signals = poisoned(TRUTH, np.random.default_rng(0), damned=2, praised=0, trust=None)
    lied = signals.posting.source == POISON
    assert lied.mean() == pytest.approx(0.05, abs=0.005)
    assert (signals.posting.value[lied, 2] == 0.0).all()
    assert (signals.posting.value[lied, 0] == 1.0).all()
    assert (signals.step[lied, 1] == NEVER).all()
    np.testing.assert_array_equal(signals.posting.value[~lied], TRUTH[~lied])


def test_what_a_liar_said_before_it_was_found_out_is_disowned() -> None:
    source = np.array([0] * 60 + [1] * 30)
    ears = Ears(Posting(np.zeros((90, 2)), source, FeedbackConfig()))
    for step in range(60):
        assert ears.hear(step, "a", 0.0) == (1.0, [])
    disowned: list[int] = []
    for step in range(60, 90):
        believed, gone = ears.hear(step, "a", -0.8)
        disowned += gone
        if gone:
            assert believed == 0.0
    assert disowned == [60, 61, 62, 63]
    assert ears.hear(89, "a", 0.0)[0] == 0.0


def test_a_poisoned_key_moves_shares_by_less_than_five_points() -> None:
    # The model that is praised is but a little worse than the one that is damned.
    study = study_of(budget_usd=None)
    noise = np.random.default_rng(5).normal(0.0, 0.15, study.matrix.quality.shape)
    scattered = np.clip(study.matrix.quality - [0.0, 0.1, 0.1] + noise, 0.0, 1.0)
    study = replace(study, matrix=replace(study.matrix, quality=scattered))
    runs = {
        name: run_repeated(
            Repeated(study, name, 1_500, damned=2, praised=1, poisoned_from=200), range(2), 1
        )
        for name in ("silenced", "poisoned", "poisoned_unguarded")
    }
    assert most_moved(runs["poisoned"], runs["silenced"])["share_moved_worst"] < 0.05
    assert most_moved(runs["poisoned_unguarded"], runs["silenced"])["share_moved"] > 0.05
    gained = shifted(runs["poisoned_unguarded"], runs["silenced"], 1)
    assert gained["shift"] is not None
    assert gained["shift"] > 0.05


@pytest.mark.parametrize("feedback", ["delayed", "biased"])
def test_with_poor_feedback_it_ends_no_worse_than_the_static_mix(feedback: str) -> None:
    plan = Repeated(study_of(), feedback, 1_200)
    report = repeated_report(plan, run_repeated(plan, range(1), 1))
    last = report["stretches"][-1]
    assert last["to"] == 1_200
    assert last["above_static_mix"] > -0.03
    assert last["spend_ratio"] == pytest.approx(1.0, abs=0.05)


def test_thumbs_of_a_low_rate_are_learned_from_without_bias() -> None:
    study = study_of(budget_usd=None)
    rare = replace(study, matrix=replace(study.matrix, quality=study.matrix.quality * 0.1))
    plan = Repeated(rare, "binary", 2_500)
    report = repeated_report(plan, run_repeated(plan, range(1), 1))
    shares = report["stretches"][-1]["shares"]
    # Thumbs come up in 5, 9 and 9.5 of a hundred: the first is found out.
    assert shares["cheap"] < 0.1


def test_a_model_that_is_out_gets_nothing_and_is_taken_up_again() -> None:
    phased = outage(study_of(), "good")
    normal, out, restored = run_phased_seed(phased, 0)
    assert (normal.arm == 1).mean() > 0.5
    assert not (out.arm == 1).any()
    assert (restored.arm == 1).mean() > 0.5


def test_traffic_shifts_from_the_short_half_to_the_long_one() -> None:
    study = study_of()
    phased = traffic_shift(study, 1)
    length = np.array([len(prompt) for prompt in study.matrix.prompts])
    assert length[phased.study.warmup].max() <= length[phased.study.score].min()
    assert phased.study.warmup.size + phased.study.score.size == length.size
    (trace,) = run_phased_seed(phased, 0)
    assert trace.arm.size == phased.study.score.size


def test_the_suite_runs_every_scenario_on_a_matrix_of_its_own() -> None:
    study = study_of(budget_usd=None)
    stages: list[str] = []
    plan = SuitePlan(
        names=("poisoned", "outage", "onboarding", "traffic_shift"),
        requests=150,
        seeds=1,
        jobs=1,
        on_stage=lambda name, total: stages.append(name),
        on_seed=lambda: None,
    )
    reports = run_suite(study, plan)
    assert set(reports) == set(plan.names) < set(NAMES)
    assert reports["outage"]["model"] == "dear"
    assert set(reports["onboarding"]["variants"]) == {"recorded", "cheap", "dear", "bad"}
    assert reports["poisoned"]["damned"] == "dear"
    assert stages[:4] == ["silenced", "silenced_elsewhere", "poisoned", "poisoned_unguarded"]
    assert set(reports["poisoned"]["shifts"]) == {"dear", "cheap"}
    assert reports["poisoned"]["by_chance"]["share_moved"] >= 0.0
    with pytest.raises(DataError, match="no scenario flood; there are stationary, "):
        run_suite(study, replace(plan, names=("flood",)))


def test_the_usual_budget_lies_between_the_cheapest_and_the_best() -> None:
    study = study_of(budget_usd=None)
    assert usual_budget(study) == pytest.approx(1e-3, rel=0.05)
    assert strong_arm(study) == 2
    unknown = replace(study.matrix, cost_usd=np.full_like(study.matrix.cost_usd, np.nan))
    assert usual_budget(replace(study, matrix=unknown)) is None
