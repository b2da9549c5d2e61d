"""Who chooses for a request: the serving policy, its tier's own, or none that explores.

All of them read the one learned state; a tier with a budget of its own, and a request of which
a day's or a session's budget says what it may cost, have a price of a dollar of their own, found
on the same recent contexts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bandit_router.allowance import stepped
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
        # By budget; of one snapshot's state.
        self._solved: dict[float, LearnedState] = {}
        self._solved_for: tuple[int, LearnedState] | None = None

    def of(
        self, request: RoutingRequest, version: int, state: LearnedState
    ) -> tuple[Policy[Any], LearnedState]:
        """Who chooses for this request, and on which state.

        version: of the snapshot that holds ``state``.
        """
        policy, tier = self._policy, request.user_tier
        budgets_usd = []
        if tier is not None:
            policy = self._of_tier.get(tier, policy)
            budgets_usd.append(self._budget_usd(self._tiers[tier]))
        if request.allowance_usd is not None:
            # Beside an allowance the policy's own budget, which has its own λ, goes on to hold.
            budgets_usd += [stepped(request.allowance_usd), self._problem.budget_usd]
        given = [budget_usd for budget_usd in budgets_usd if budget_usd is not None]
        if given and (least_usd := min(given)) != self._problem.budget_usd:
            state = self._at_budget(least_usd, version, state)
        if not request.controls.explore and policy.adaptive:
            policy = Greedy(policy)
        return policy, state

    def _budget_usd(self, tier: TierConfig) -> float | None:
        if tier.budget_multiplier is not None and self._problem.budget_usd is not None:
            return self._problem.budget_usd * tier.budget_multiplier
        return tier.budget_usd_per_request

    def _at_budget(self, budget_usd: float, version: int, state: LearnedState) -> LearnedState:
        made_for = self._solved_for
        if made_for is None or made_for[0] != version or made_for[1] is not state:
            self._solved, self._solved_for = {}, (version, state)
        known = self._solved.get(budget_usd)
        if known is not None:
            return known
        problem = replace(self._problem, budget_usd=budget_usd)
        pacer: PacerState = replace(state.pacer, account_usd=0.0)
        solved = with_solved_price(problem, self._policy, replace(state, pacer=pacer))
        price = solved.pacer.price_of_dollar
        priced = replace(state, pacer=replace(state.pacer, price_of_dollar=price))
        self._solved[budget_usd] = priced
        return priced
