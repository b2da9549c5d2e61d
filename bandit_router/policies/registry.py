"""Every policy by name. Adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandit_router.errors import ConfigError
from bandit_router.policies.base import Policy, PolicyOptions
from bandit_router.policies.greedy import EpsilonGreedy, Fixed, LinUcb, Random
from bandit_router.policies.thompson import Thompson

POLICIES: dict[str, Callable[[PolicyOptions], Policy[Any]]] = {
    "thompson": lambda options: Thompson(sampling_scale=options.sampling_scale),
    "epsilon_greedy": lambda options: EpsilonGreedy(epsilon=options.epsilon),
    "linucb": lambda options: LinUcb(confidence=options.confidence),
    "fixed": lambda options: Fixed(arm=options.fixed_arm),
    "random": lambda options: Random(),
}


def build_policy(name: str, options: PolicyOptions) -> Policy[Any]:
    """The policy called ``name``. Raises ConfigError with the known names otherwise."""
    if name not in POLICIES:
        raise ConfigError(f"no policy '{name}'; known policies: {', '.join(sorted(POLICIES))}")
    if name == "fixed" and options.fixed_arm < 0:
        raise ConfigError("policy 'fixed' needs a model: set policy.model, or use fixed:MODEL")
    return POLICIES[name](options)
