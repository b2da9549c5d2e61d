"""How a trial stands: hand-worked differences, bounds that hold, and the verdicts they carry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from bandit_router.config_challengers import (
    Automatic,
    ChallengerConfig,
    Stage,
    TrialSetting,
)
from bandit_router.trial_evaluation import evaluated
from bandit_router.trial_evidence import TrialEvidence, TrialNumbers
from bandit_router.trial_rows import TrialRow
from bandit_router.trial_verdict import MOST_FAILURES, Step, Verdict, verdict
from bandit_router.types import Trial

ARMS = ("small", "large")
BOTH = np.ones(2, dtype=np.bool_)
CHAMPION, CHALLENGER = np.array([0.9, 0.1]), np.array([0.05, 0.95])


def row(
    chosen: int,
    reward: float | None,
    *,
    share: float = 0.1,
    cost_usd: float | None = None,
    mine: Any = CHALLENGER,
    theirs: Any = CHAMPION,
    predicted: Any = (0.5, 0.5),
) -> TrialRow:
    pmf = (1.0 - share) * theirs + share * mine
    trial = Trial("c", 1, share, mine, theirs, drew=False)
    return TrialRow(ARMS, BOTH, pmf, trial, chosen, np.array(predicted), reward, cost_usd)


def evidence(budget_usd: float | None = None, alpha: float = 0.01) -> TrialEvidence:
    return TrialEvidence(alpha=alpha, share=0.1, budget_usd=budget_usd)


def simulated(
    quality: tuple[float, float], count: int, *, share: float = 0.1, seed: int = 1, **more: Any
) -> list[TrialRow]:
    rng = np.random.default_rng(seed)
    pmf = (1.0 - share) * CHAMPION + share * CHALLENGER
    rows = []
    for _ in range(count):
        arm = int(rng.random() < pmf[1])
        worth = float(np.clip(quality[arm] + 0.15 * rng.standard_normal(), 0.0, 1.0))
        rows.append(row(arm, worth, share=share, **more))
    return rows


def test_the_difference_is_that_of_the_doubly_robust_terms() -> None:
    # m = (0.815, 0.185); of "large": w = 0.95/0.185, v = 0.1/0.185; all is predicted at 0.5.
    one = evidence()
    one.add([row(1, 0.8)])
    found = one.numbers()
    assert found.challenger_reward == pytest.approx(0.5 + 0.95 / 0.185 * 0.3)
    assert found.champion_reward == pytest.approx(0.5 + 0.1 / 0.185 * 0.3)
    assert found.difference == pytest.approx(0.85 / 0.185 * 0.3)
    assert found.largest_weight == pytest.approx(0.95 / 0.185)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_bad_challenger_is_found_out_and_a_good_one_too() -> None:
    bad, good = evidence(), evidence()
    bad.add(simulated((0.8, 0.4), 300))
    good.add(simulated((0.5, 0.9), 400))
    worse, better = bad.numbers(), good.numbers()
    # The truth is 0.85 · (large − small).
    assert worse.low <= -0.34 <= worse.high < -0.02
    assert 0.0 < better.low <= 0.34 <= better.high


def test_looking_after_every_few_rewards_condemns_no_equal_challenger() -> None:
    looks = wrong = 0
    for seed in range(12):
        one = evidence(alpha=0.05)
        for start in range(0, 400, 25):
            one.add(simulated((0.6, 0.6), 25, seed=1000 * seed + start, predicted=(0.3, 0.7)))
            found = one.numbers()
            looks += 1
            wrong += found.high < 0.0 or found.low > 0.0
    assert looks == 192
    assert wrong <= 1


def test_what_could_not_be_drawn_counts_for_neither_side() -> None:
    one = evidence()
    sure = np.array([1.0, 0.0])
    one.add([row(0, 0.9, share=0.0, theirs=sure, predicted=(0.5, 0.99)) for _ in range(300)])
    found = one.numbers()
    assert found.unsupported == pytest.approx(0.95)
    # Nothing is known of "large": it may be worth anything from 0 to 1.
    assert found.low < 0.0
    assert found.high >= 0.95 * 1.0 + 0.05 * 0.9 - 0.9
    assert found.refused is not None


def test_a_challenger_over_its_budget_is_found_out_and_one_within_is_not() -> None:
    over, within = evidence(budget_usd=0.001), evidence(budget_usd=0.01)
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(400):
        arm = int(rng.random() < 0.185)
        rows.append(row(arm, None, cost_usd=(0.0002, 0.005)[arm]))
    over.add(rows)
    within.add(rows)
    assert over.numbers().overspend_odds > 1e3
    assert within.numbers().overspend_odds < 1.0
    assert over.numbers().cost_usd == pytest.approx(0.95 * 0.005, rel=0.3)
    assert over.numbers().leans == pytest.approx({"small": -0.85, "large": 0.85})


def setting(stage: Stage = Stage.CANARY, held: str = "", **changes: Any) -> TrialSetting:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return TrialSetting(
        challenger=ChallengerConfig(name="bold", **changes),
        line="thompson~bold-1",
        stage=stage,
        started_at=now,
        stage_since=now,
        held=held,
    )


def numbers(**changes: Any) -> TrialNumbers:
    values: dict[str, Any] = {
        "rewards": 500,
        "costs": 500,
        "drew": 50,
        "difference": 0.0,
        "low": -0.2,
        "high": 0.2,
        "champion_reward": 0.7,
        "challenger_reward": 0.7,
        "effective_sample_size": 80.0,
        "largest_weight": 5.0,
        "unsupported": 0.0,
        "cost_usd": 0.001,
        "champion_cost_usd": 0.001,
        "overspend_odds": 1.0,
        "leans": {"small": -0.3, "large": 0.3},
    }
    return TrialNumbers(**{**values, **changes})


def judged(of: TrialSetting, found: TrialNumbers, alarms: Any = (), failures: int = 0) -> Verdict:
    return verdict(of, found, alarms, failures, "overflow")


def test_little_evidence_is_refused_in_words_and_moves_nothing() -> None:
    found = judged(setting(automatic=Automatic.PROMOTE), numbers(effective_sample_size=9.0))
    assert found.step is Step.STAY
    assert "cannot be said yet: 500 rewards are worth 9 decisions" in found.reason
    assert "not decided yet" in judged(setting(), numbers()).reason


@pytest.mark.parametrize(
    ("changes", "alarms", "failures", "said"),
    [
        ({"difference": -0.3, "high": -0.1}, (), 0, "it is worse: mean reward -0.300"),
        ({"overspend_odds": 101.0}, (), 0, "over its budget"),
        ({}, [("quality", "large", "lower than it was")], 0, "quality of large"),
        ({}, (), MOST_FAILURES, "could not answer 20 decisions"),
    ],
)
def test_it_goes_back_when_it_is_worse_too_dear_alarming_or_broken(
    changes: Any, alarms: Any, failures: int, said: str
) -> None:
    found = judged(setting(), numbers(**changes), alarms, failures)
    assert found.step is Step.BACK
    assert said in found.reason


def test_an_alarm_on_a_model_that_it_chooses_no_more_often_is_not_its_doing() -> None:
    assert judged(setting(), numbers(), [("quality", "small", "lower")]).step is Step.STAY
    shadow = setting(Stage.SHADOW)
    assert judged(shadow, numbers(), [("quality", "large", "lower")]).step is Step.STAY


def test_it_goes_on_by_itself_only_as_far_as_it_may_and_never_once_it_was_sent_back() -> None:
    sure = numbers(low=-0.01)
    for stage, automatic, step in (
        (Stage.SHADOW, Automatic.NONE, Step.STAY),
        (Stage.SHADOW, Automatic.CANARY, Step.CANARY),
        (Stage.CANARY, Automatic.CANARY, Step.STAY),
        (Stage.CANARY, Automatic.PROMOTE, Step.PROMOTE),
    ):
        found = judged(setting(stage, automatic=automatic), sure)
        assert (found.step, found.passed) == (step, True)
    held = setting(Stage.SHADOW, held="it was worse", automatic=Automatic.PROMOTE)
    assert judged(held, sure).step is Step.STAY
    # Held in shadow already: nothing is done again and again.
    assert judged(held, numbers(difference=-0.3, high=-0.1)).step is Step.STAY


def test_a_report_estimates_both_policies_on_the_same_decisions() -> None:
    rows = simulated((0.3, 0.6), 1_500, predicted=(0.5, 0.6))
    report = evaluated(rows, ARMS)
    assert report is not None
    assert report.refused is None
    assert report.reward_difference is not None
    value, (low, high) = report.reward_difference
    assert low < 0.85 * 0.3 < high
    assert value == pytest.approx(0.85 * 0.3, abs=0.05)
    assert evaluated(rows, ("other",)) is None
