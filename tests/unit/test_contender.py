"""A challenger beside the champion: an exact mixture, and no request lost to its mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bandit_router.choice import draw
from bandit_router.config import ExplorationConfig, ModelConfig, PolicyConfig, RouterConfig
from bandit_router.contender import Contender, credited, mixture
from bandit_router.features import build_extractor
from bandit_router.learning import init_state
from bandit_router.policies.greedy import Fixed
from bandit_router.router import policy_of, problem_of, renamed
from bandit_router.serving import Serving
from bandit_router.types import Trial

CONFIG = RouterConfig(
    models=tuple(
        ModelConfig(name=name, base_url="http://x/v1") for name in ("small", "middle", "large")
    ),
    policy=PolicyConfig(name="fixed", model="large"),
)
EXTRACTOR = build_extractor(CONFIG.features)
PROBLEM = problem_of(CONFIG, EXTRACTOR)
FEATURES = np.zeros(len(EXTRACTOR.names), dtype=np.float32)
CHAMPION = np.array([0.6, 0.3, 0.1])
ALL = np.ones(3, dtype=np.bool_)


def contender(policy: Any = None, share: float = 0.2, sampled: float = 1.0) -> Contender:
    policy = policy or policy_of(CONFIG)
    serving = Serving(4, init_state(PROBLEM, policy_of(CONFIG)))
    return Contender(policy, PROBLEM, ExplorationConfig(), serving, share=share, sampled=sampled)


def trial_of(share: float = 0.2) -> Trial:
    return Trial("c", 1, share, np.array([0.0, 0.5, 0.5]), CHAMPION, drew=False)


def test_the_mixture_is_one_minus_s_of_the_champion_and_s_of_the_challenger() -> None:
    assert mixture(trial_of()).tolist() == pytest.approx([0.48, 0.34, 0.18])
    assert mixture(trial_of(0.0)) is CHAMPION


def test_sides_are_credited_as_if_they_had_been_drawn_first() -> None:
    rng = np.random.default_rng(3)
    trial, n = trial_of(), 20_000
    counts = np.zeros((2, 3))
    for _ in range(n):
        arm = draw(mixture(trial), rng.random())
        side = credited(trial, arm, rng.random()).drew
        counts[int(side), arm] += 1.0
    expected = np.stack([0.8 * trial.champion_pmf, 0.2 * trial.pmf])
    bound = 4.0 * np.sqrt(expected * (1.0 - expected) / n)
    assert (np.abs(counts / n - expected) <= bound).all()


def test_it_says_what_it_would_do_under_its_own_name_and_version() -> None:
    found = contender(renamed(policy_of(CONFIG), "fixed~bold")).beside(
        CHAMPION, FEATURES, 10.0, ALL, frozen=False
    )
    assert found is not None
    assert (found.challenger, found.snapshot_version, found.share) == ("fixed~bold", 4, 0.2)
    assert found.pmf.tolist() == [0.0, 0.0, 1.0]
    assert found.champion_pmf is CHAMPION


def test_while_exploration_is_frozen_it_too_puts_all_on_what_looks_best() -> None:
    policy = policy_of(CONFIG.varied({"name": "random"}, {}, learned_as=None))
    eligible = np.array([False, True, True])
    found = contender(policy).beside(CHAMPION, FEATURES, 10.0, eligible, frozen=True)
    assert found is not None
    assert sorted(found.pmf.tolist()) == [0.0, 0.0, 1.0]
    assert found.pmf[0] == 0.0


@dataclass(frozen=True)
class Broken(Fixed):
    """Answers what it is told to, or raises it."""

    said: Any = None

    def pmf(self, state: Any, context: Any, eligible: Any) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return np.array(self.said)


@pytest.mark.parametrize(
    "said",
    [
        FloatingPointError("overflow"),
        np.linalg.LinAlgError("singular"),
        ValueError("shape"),
        [0.5, np.nan, 0.5],
        [1.5, -0.5, 0.0],
        [0.5, 0.4, 0.0],
        [0.5, 0.0, 0.5],
    ],
)
def test_a_challenger_that_cannot_answer_is_counted_and_costs_nothing(said: Any) -> None:
    one = contender(Broken(arm=2, said=said))
    eligible = np.array([True, True, False])
    assert one.beside(CHAMPION, FEATURES, 10.0, eligible, frozen=False) is None
    assert one.failures == 1
    assert one.last_error


def test_in_shadow_a_share_of_decisions_is_sampled_in_canary_all_are_asked() -> None:
    assert contender(share=0.0, sampled=0.3).asked(0.29)
    assert not contender(share=0.0, sampled=0.3).asked(0.31)
    assert contender(share=0.1, sampled=0.3).asked(0.99)


def test_a_challengers_keys_are_checked_as_the_sections_they_change() -> None:
    whole = CONFIG.varied({"epsilon": 0.3}, {"floor": 0.05}, learned_as="fixed~x")
    assert whole.policy.epsilon == 0.3
    assert whole.policy.model == "large"
    assert whole.exploration.floor == 0.05
    assert policy_of(whole).name == "fixed~x"
    for policy, exploration in (
        ({"epsilon": 3.0}, {}),
        ({"nonsense": 1}, {}),
        ({"model": "nobody"}, {}),
        ({"learned_as": "mine"}, {}),
        ({}, {"floor": 0.9}),
    ):
        with pytest.raises(ValueError, match=r"epsilon|nonsense|fixed|learned_as|floor"):
            CONFIG.varied(policy, exploration, learned_as=None)
