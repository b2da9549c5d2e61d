"""The ways of routing that people use today, each by its own rule; the contract is elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from core_samples import folded, make_problem, make_rows
from scipy.special import expit

from bandit_router.config import ExplorationConfig, FeaturesConfig
from bandit_router.features import build_extractor
from bandit_router.learning import init_state
from bandit_router.pacing import PacerState
from bandit_router.policies import Context, Evidence, PolicyOptions, build_policy
from bandit_router.policies.base import Beliefs, Rows
from bandit_router.policies.capability import Task, task_of
from bandit_router.policies.classifier import Classified, Classifier, logistic_weights
from bandit_router.policies.heuristic import difficulty
from bandit_router.policies.knn import MOST_ROWS, Knn
from bandit_router.policies.ladder import MIDDLE, ladder, rung_pmf
from bandit_router.policies.latency import Latency
from bandit_router.policies.session_budget import SessionBudget
from bandit_router.policies.user_tier import tier_of
from bandit_router.selection import recomputed_pmf, select
from bandit_router.types import FloatArray, RoutingRequest

# In the order of price: the third, the first, the second.
COST_USD = np.array([1e-3, 1e-2, 1e-4])
EVERYONE = np.ones(3, dtype=np.bool_)
EXTRACTOR = build_extractor(
    FeaturesConfig.model_validate({"text": "none", "metadata": ["task", "user_tier"]})
)
PROOF = "Prove step by step that the sum of two even numbers is even. Explain why. " * 8


def context(prompt: str = "", **changes: Any) -> Context:
    """A request as the router describes it to a policy."""
    labels = changes.pop("metadata", {})
    request = RoutingRequest(messages=({"role": "user", "content": prompt},), metadata=labels)
    values: dict[str, Any] = {
        "z": np.ones(1),
        "beliefs": Beliefs(mean=np.array([0.7, 0.9, 0.5]), sd=np.full(3, 0.1)),
        "penalty": np.zeros(3),
        "cost_usd": COST_USD,
        "latency_s": np.array([1.0, 5.0, 0.2]),
        "features": EXTRACTOR.extract(request).astype(np.float64),
        "feature_names": EXTRACTOR.names,
    }
    return Context(**{**values, **changes})


def chosen(name: str, handed: Context, eligible: FloatArray = EVERYONE) -> int:
    """The arm that a policy without memories puts all its mass on."""
    policy = build_policy(name, PolicyOptions())
    pmf = policy.pmf(policy.init(3, handed.z.size), handed, eligible)
    assert pmf.max() == 1.0
    return int(pmf.argmax())


def test_the_ladder_is_in_the_order_of_predicted_dollars() -> None:
    assert ladder(context(), EVERYONE) == [2, 0, 1]
    assert ladder(context(), np.array([True, True, False])) == [0, 1]
    assert ladder(context(cost_usd=np.ones(3)), EVERYONE) == [0, 1, 2]
    np.testing.assert_array_equal(rung_pmf(context(), EVERYONE, MIDDLE), [1.0, 0.0, 0.0])
    two = np.array([True, True, False])
    np.testing.assert_array_equal(rung_pmf(context(), two, MIDDLE), [1.0, 0.0, 0.0])


def test_heuristic_sends_greetings_low_and_proofs_high() -> None:
    assert chosen("heuristic", context("Hello!")) == 2
    assert chosen("heuristic", context(PROOF)) == 1
    middling = context("Describe a small town by the sea, and who lives there. " * 6)
    assert 0.2 <= difficulty(middling) <= 0.8
    assert chosen("heuristic", middling) == 0


def test_heuristic_counts_who_asks() -> None:
    asked = "What is the capital of France, and how far is it from the sea?"
    free, paid = (difficulty(context(asked, metadata={"user_tier": t})) for t in ("free", "pro"))
    assert free < difficulty(context(asked)) < paid


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("def f(x):\n    return x\n\nprint(f(1))\n\nFix it in python", Task.CODE),
        ("How many apples are left? Calculate.", Task.REASONING),
        ("Which?\nA. red\nB. green\nC. blue\nD. white", Task.CHOICE),
        ("Translate this into German: good morning", Task.TRANSFORM),
        ("Write a poem on autumn.", Task.WRITE),
        ("Describe the water cycle.", Task.EXPLAIN),
        ("Good morning!", Task.OTHER),
    ],
)
def test_capability_tells_the_task(prompt: str, task: Task) -> None:
    assert task_of(context(prompt)) is task


def test_capability_goes_by_its_table() -> None:
    assert chosen("capability", context("How many apples are left? Calculate.")) == 1
    assert chosen("capability", context("Write a poem on autumn.")) == 0
    assert chosen("capability", context("Good morning!")) == 2


@pytest.mark.parametrize(
    ("tier", "arm"), [("free", 2), ("standard", 0), ("enterprise", 1), ("nobody knows", 2)]
)
def test_user_tier_goes_by_its_label(tier: str, arm: int) -> None:
    assert chosen("user_tier", context(metadata={"user_tier": tier})) == arm


def test_a_tier_is_read_from_features_only_where_they_hold_one() -> None:
    assert tier_of(context()) is None
    assert tier_of(context(metadata={"task": "free"})) is None
    assert tier_of(Context(np.ones(1), context().beliefs, np.zeros(3))) is None
    assert chosen("user_tier", context()) == 2


@pytest.mark.parametrize(("debt", "arm"), [(-5.0, 1), (49.0, 1), (50.0, 0), (99.0, 0), (100.0, 2)])
def test_session_budget_steps_down_as_its_allowance_goes(debt: float, arm: int) -> None:
    policy = SessionBudget(session_requests=100)
    pmf = policy.pmf(policy.init(3, 1), context(debt_requests=debt), EVERYONE)
    assert int(pmf.argmax()) == arm


@pytest.mark.parametrize(("target_s", "arm"), [(10.0, 1), (2.0, 0), (0.5, 2), (0.1, 2)])
def test_latency_takes_the_best_of_those_in_time(target_s: float, arm: int) -> None:
    policy = Latency(target_s=target_s)
    pmf = policy.pmf(policy.init(3, 1), context(), EVERYONE)
    assert int(pmf.argmax()) == arm


def remembered(policy: Knn, rewards: list[tuple[int, float, float]]) -> Any:
    """A memory of (arm, place, reward) in one dimension beside the bias."""
    state = policy.init(2, 2)
    for arm, place, reward in rewards:
        z = np.array([1.0, place])
        state = policy.update(state, Evidence(arm, z, reward, None, 1.0))
    return state


def test_knn_believes_its_neighbours() -> None:
    policy = Knn(neighbours=2)
    state = remembered(policy, [(0, 0.0, 1.0), (0, 0.1, 0.8), (0, 9.0, 0.0), (1, 9.0, 1.0)])
    near, far = (policy.beliefs(state, np.array([1.0, place])) for place in (0.0, 9.0))
    # The prior counts as one more reward of a half.
    assert near.mean[0] == pytest.approx((0.5 + 1.0 + 0.8) / 3.0)
    assert far.mean[0] == pytest.approx((0.5 + 0.0 + 0.8) / 3.0)
    assert near.mean[1] == pytest.approx(0.75)
    assert near.sd[0] == pytest.approx(0.5 / np.sqrt(3.0))
    handed = context(z=np.array([1.0, 9.0]), beliefs=far, penalty=np.zeros(2))
    np.testing.assert_array_equal(policy.pmf(state, handed, EVERYONE[:2]), [0.0, 1.0])


def test_knn_keeps_so_many_memories_and_no_more() -> None:
    policy = Knn()
    rows = MOST_ROWS + 5
    z = np.ones((rows, 1))
    log = Rows(
        z=z, arm=np.zeros(rows, dtype=np.int64), value=np.linspace(0, 1, rows), weight=z[:, 0]
    )
    state = policy.refit(policy.init(1, 1), log, np.zeros(1))
    assert state.arm.size == MOST_ROWS
    assert state.reward[0] == pytest.approx(log.value[5])
    state = policy.update(state, Evidence(0, np.ones(1), 0.25, None, 1.0))
    assert state.arm.size == MOST_ROWS
    assert state.reward[-1] == 0.25
    # The first five are forgotten: one of them can be neither revised nor retracted.
    gone = Evidence(0, np.ones(1), None, float(log.value[0]), 1.0)
    assert policy.update(state, gone) is state


def test_logistic_weights_are_those_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    z = np.column_stack([np.ones(20_000), rng.normal(size=(20_000, 2))])
    truth = np.array([-0.5, 1.5, -1.0])
    # Soft labels: the chance itself, so that only the ridge stands between fit and truth.
    fitted = logistic_weights(z, np.asarray(expit(z @ truth)), np.ones(20_000))
    np.testing.assert_allclose(fitted, truth, atol=2e-3)
    np.testing.assert_array_equal(logistic_weights(z[:0], z[:0, 0], z[:0, 0]), np.zeros(3))


def test_classifier_sends_what_the_cheapest_would_fail_to_the_dearest() -> None:
    policy = Classifier()
    rng = np.random.default_rng(1)
    z = np.column_stack([np.ones(600), rng.choice([-1.0, 1.0], 600)])
    rewards = np.where(z[:, 1] > 0, 0.05, 0.95)
    log = Rows(z=z, arm=np.full(600, 2), value=rewards, weight=np.ones(600))
    state = policy.refit(policy.init(3, 2), log, np.array([0.0, 1.0]))
    hard, easy = (context(z=np.array([1.0, side])) for side in (1.0, -1.0))
    assert int(policy.pmf(state, hard, EVERYONE).argmax()) == 1
    assert int(policy.pmf(state, easy, EVERYONE).argmax()) == 2
    # 0.7 itself is not above it.
    even = Classified(state.bank, np.zeros((3, 2)))
    assert int(policy.pmf(even, hard, EVERYONE).argmax()) == 2


@pytest.mark.parametrize(
    "name",
    ["knn", "classifier", "heuristic", "capability", "session_budget", "latency", "user_tier"],
)
def test_a_decision_is_recomputed_from_its_snapshot_and_what_is_logged(name: str) -> None:
    problem = make_problem(feature_count=4, budget_usd=2e-4)
    policy = build_policy(name, PolicyOptions())
    state = folded(problem, policy, make_rows(problem, 90))
    features = np.array([0.3, -1.0, 0.5, 0.2])
    selection = select(problem, policy, state, features, 20.0, EVERYONE, ExplorationConfig(), None)
    again = recomputed_pmf(
        problem,
        policy,
        state,
        features,
        EVERYONE,
        selection.prediction,
        price_of_dollar=state.pacer.price_of_dollar,
        price_of_second=problem.value_of_second,
        exploration=selection.exploration,
    )
    assert again.tobytes() == selection.pmf.tobytes()


def test_a_policy_is_told_how_far_spend_runs_ahead_of_the_budget() -> None:
    problem = make_problem(budget_usd=1e-3)
    policy = SessionBudget(session_requests=10)
    state = init_state(problem, policy)

    def chooses(account_usd: float) -> int:
        pacer: PacerState = replace(state.pacer, account_usd=account_usd)
        indebted = replace(state, pacer=pacer)
        never = ExplorationConfig(enabled=False)
        selection = select(problem, policy, indebted, np.zeros(4), 9.0, EVERYONE, never, None)
        return int(selection.pmf.argmax())

    assert [chooses(usd) for usd in (0.0, -6e-3, -1.1e-2)] == [2, 1, 0]
