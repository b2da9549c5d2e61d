"""The pmf that is logged is the pmf that is drawn from, over ten thousand decisions."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import numpy as np
from chain_setup import http_model

from bandit_router import learning
from bandit_router.activity import ActivityLog
from bandit_router.breakers import Breakers
from bandit_router.circuit import BreakerSettings
from bandit_router.clock import SystemClock
from bandit_router.config import ExplorationConfig, FeaturesConfig, RouterConfig
from bandit_router.features import build_extractor
from bandit_router.ids import uuid7
from bandit_router.router import Router, policy_of, problem_of
from bandit_router.serving import Serving
from bandit_router.types import Observation, RoutingRequest

DECISIONS = 10_000
ARMS = ("a", "b", "c")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUESTIONS = ("Hi", "Prove that 2 + 2 = 4.", "def f(x): return x  # why?", "Wie spät ist es?")
# Of a standard normal; three arms and one seed: a false alarm in about 50,000 runs.
BOUND = 4.5


def learned_router(rng: random.Random) -> Router:
    """A router that has seen a little, so that no pmf is uniform and none is certain."""
    config = RouterConfig(
        models=tuple(http_model(name, "http://127.0.0.1:1/v1") for name in ARMS),
        features=FeaturesConfig(text="none"),
        exploration=ExplorationConfig(min_pulls_per_day=10),
    )
    extractor, policy = build_extractor(config.features), policy_of(config)
    problem = problem_of(config, extractor)
    state = learning.init_state(problem, policy)
    for seq in range(30):
        arm = rng.randrange(len(ARMS))
        request = asking(rng.choice(QUESTIONS))
        row = Observation(
            decision_seq=seq,
            decision_id=uuid7(NOON, rng.getrandbits(74)),
            arm=ARMS[arm],
            features=extractor.extract(request).astype(np.float64),
            input_tokens=20,
            reward=min(max(rng.gauss(0.5 + 0.05 * arm, 0.2), 0.0), 1.0),
            cost_usd=1e-5,
            latency_s=0.5,
            output_tokens=10,
        )
        state = learning.fold(problem, policy, state, row)
    clock = SystemClock()
    return Router(
        config,
        extractor,
        problem,
        policy,
        Serving(1, state),
        breakers=Breakers({}, BreakerSettings(), clock),
        activity=ActivityLog(len(ARMS)),
        secret=b"a secret of this test",
    )


def asking(question: str) -> RoutingRequest:
    return RoutingRequest(messages=({"role": "user", "content": question},))


def test_models_are_drawn_as_often_as_the_logged_pmf_says() -> None:
    rng = random.Random(20260301)
    router = learned_router(rng)
    drawn = np.zeros(len(ARMS))
    expected = np.zeros(len(ARMS))
    variance = np.zeros(len(ARMS))
    seen = set()
    for number in range(DECISIONS):
        now = NOON + timedelta(seconds=number)
        decision = router.decide(
            asking(rng.choice(QUESTIONS)), decision_id=uuid7(now, rng.getrandbits(74)), now=now
        )
        arm = ARMS.index(decision.chosen)
        assert decision.propensity == decision.pmf[arm]
        drawn[arm] += 1.0
        expected += decision.pmf
        variance += decision.pmf * (1.0 - decision.pmf)
        seen.add(tuple(np.round(decision.pmf, 3)))
    # Each draw is independent given its pmf: the sums differ by noise of known variance.
    assert np.all(np.abs(drawn - expected) <= BOUND * np.sqrt(variance))
    # The claim would be empty if nothing were uncertain, or every pmf the same.
    assert np.all(variance > 100.0)
    assert len(seen) >= len(QUESTIONS)
