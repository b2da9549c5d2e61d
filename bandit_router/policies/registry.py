"""Every policy by name. Adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandit_router.errors import ConfigError
from bandit_router.policies.base import Policy, PolicyOptions
from bandit_router.policies.capability import Capability
from bandit_router.policies.classifier import Classifier
from bandit_router.policies.greedy import EpsilonGreedy, Fixed, LinUcb, Random
from bandit_router.policies.heuristic import Heuristic
from bandit_router.policies.knn import Knn
from bandit_router.policies.latency import Latency
from bandit_router.policies.session_budget import SessionBudget
from bandit_router.policies.thompson import Thompson
from bandit_router.policies.user_tier import UserTier

POLICIES: dict[str, Callable[[PolicyOptions], Policy[Any]]] = {
    "thompson": lambda options: Thompson(sampling_scale=options.sampling_scale),
    "epsilon_greedy": lambda options: EpsilonGreedy(epsilon=options.epsilon),
    "linucb": lambda options: LinUcb(confidence=options.confidence),
    "fixed": lambda options: Fixed(arm=options.fixed_arm),
    "random": lambda options: Random(),
    "knn": lambda options: Knn(neighbours=options.neighbours),
    "classifier": lambda options: Classifier(),
    "heuristic": lambda options: Heuristic(),
    "capability": lambda options: Capability(),
    "session_budget": lambda options: SessionBudget(session_requests=options.session_requests),
    "latency": lambda options: Latency(target_s=options.latency_target_s),
    "user_tier": lambda options: UserTier(),
}


def build_policy(name: str, options: PolicyOptions) -> Policy[Any]:
    """The policy called ``name``. Raises ConfigError with the known names otherwise."""
    if name not in POLICIES:
        raise ConfigError(f"no policy '{name}'; known policies: {', '.join(sorted(POLICIES))}")
    if name == "fixed" and options.fixed_arm < 0:
        raise ConfigError("policy 'fixed' needs a model: set policy.model, or use fixed:MODEL")
    return POLICIES[name](options)
