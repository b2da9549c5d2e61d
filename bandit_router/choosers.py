"""Who chooses for a request: the serving policy, its tier's own, or none that explores.

All of them read the one learned state; a tier with a budget of its own has a price of a dollar
of its own, found on the same recent contexts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bandit_router.config import RouterConfig
from bandit_router.config_steering import TierConfig
from bandit_router.errors import ConfigError
from bandit_router.learning import LearnedState, Problem, with_solved_price
from bandit_router.pacing import PacerState
from bandit_router.policies import Policy, PolicyOptions, build_policy
from bandit_router.policies.greedy import Greedy
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import RoutingRequest

GREEDY = Greedy.name
# Among a decision's influences: the policy whose state another one chose by.
STATE_OF = "state_of"


def chooser_named(name: str, learned: Policy[Any], options: PolicyOptions) -> Policy[Any]:
    """A policy that chooses on the state of ``learned``, the one that serves and learns.

    Raises ConfigError where the two do not share a state.
    """
    if name == learned.name:
        return learned
    if name == GREEDY:
        return Greedy(learned)
    chooser = build_policy(name, options)
    if not (isinstance(chooser, LinearPolicy) and isinstance(learned, LinearPolicy)):
        raise ConfigError(
            f"policy '{name}' cannot choose on what '{learned.name}' learns: a tier's policy must "
            "be one with linear heads, such as thompson, linucb, fixed, latency or capability"
        )
    return chooser


class Choosers:
    """The policy and the state to choose with, per request; prices are solved once a snapshot."""

    def __init__(
        self, config: RouterConfig, problem: Problem, policy: Policy[Any], options: PolicyOptions
    ) -> None:
        self._problem = problem
        self._policy = policy
        self._tiers = config.tiers
        self._of_tier = {
            name: chooser_named(tier.policy, policy, options)
            for name, tier in config.tiers.items()
            if tier.policy is not None
        }
        self._solved: dict[str, tuple[int, LearnedState, LearnedState]] = {}

    def of(
        self, request: RoutingRequest, version: int, state: LearnedState
    ) -> tuple[Policy[Any], LearnedState]:
        """Who chooses for this request, and on which state.

        version: of the snapshot that holds ``state``.
        """
        policy, tier = self._policy, request.user_tier
        if tier is not None:
            policy = self._of_tier.get(tier, policy)
            budget_usd = self._budget_usd(self._tiers[tier])
            if budget_usd is not None:
                state = self._at_budget(tier, budget_usd, version, state)
        if not request.controls.explore and policy.adaptive:
            policy = Greedy(policy)
        return policy, state

    def _budget_usd(self, tier: TierConfig) -> float | None:
        if tier.budget_multiplier is not None and self._problem.budget_usd is not None:
            return self._problem.budget_usd * tier.budget_multiplier
        return tier.budget_usd_per_request

    def _at_budget(
        self, tier: str, budget_usd: float, version: int, state: LearnedState
    ) -> LearnedState:
        known = self._solved.get(tier)
        if known is not None and known[0] == version and known[1] is state:
            return known[2]
        problem = replace(self._problem, budget_usd=budget_usd)
        pacer: PacerState = replace(state.pacer, account_usd=0.0)
        solved = with_solved_price(problem, self._policy, replace(state, pacer=pacer))
        price = solved.pacer.price_of_dollar
        priced = replace(state, pacer=replace(state.pacer, price_of_dollar=price))
        self._solved[tier] = (version, state, priced)
        return priced
