"""Models that come and go: the learned state for another list of arms.

An arm that stays keeps everything it has, to the bit. A new version of a model starts from what
is known of the one before, weakened so that its own feedback soon decides; any other newcomer
starts from the prior and its model card; from recorded outcomes at the next fit. An arm that goes
takes only its own rows with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bandit_router import alarms, effort, pacing
from bandit_router.known_rows import inherited_share
from bandit_router.learning import LearnedState, Problem, with_cards, with_solved_price
from bandit_router.policies.base import Policy
from bandit_router.types import BoolArray, FloatArray, IntArray


def with_arms(policy: Policy[Any], state: LearnedState, old: Problem, new: Problem) -> LearnedState:
    """What was learned under ``old``, for the arms of ``new``; by name, in any order.

    Features and extractor must be the same. λ is solved anew, since the frontier is another.
    """
    origin, inherits = origins(old.arms, new)
    same_unit = np.array(
        [
            k < 0 or old.prices.metered[k] == new.prices.metered[i]
            for i, k in enumerate(origin.tolist())
        ]
    )
    stays = (origin >= 0) & ~inherits
    carried = replace(
        state,
        policy=policy.carried(state.policy, origin, _shares(origin, inherits, state.rewards)),
        effort=effort.carried(
            state.effort,
            origin,
            _shares(origin, inherits, state.pulls),
            new.typical_amount,
            same_unit,
        ),
        pulls=np.where(stays, state.pulls[origin], 0.0),
        rewards=np.where(stays, state.rewards[origin], 0.0),
        pacer=pacing.unsteadied(state.pacer),
        watch=alarms.carried(state.watch, np.where(stays, origin, -1)),
    )
    carried = with_cards(new, policy, carried, np.flatnonzero(origin < 0))
    return with_solved_price(new, policy, carried)


def adapted(policy: Policy[Any], state: LearnedState, old: Problem, new: Problem) -> LearnedState:
    """What was learned under ``old``, for the models and the budget of ``new``.

    Under another budget the account begins anew: neither surplus nor debt was made under it.
    """
    same = old.arms == new.arms and np.array_equal(old.prices.metered, new.prices.metered)
    if not same:
        state = with_arms(policy, state, old, new)
    if old.budget_usd != new.budget_usd:
        pacer = replace(pacing.unsteadied(state.pacer), account_usd=0.0, price_of_dollar=0.0)
        state = replace(state, pacer=pacer)
    return with_solved_price(new, policy, state)


def origins(old: tuple[str, ...], new: Problem) -> tuple[IntArray, BoolArray]:
    """(K',) index of the old arm that each new one continues, -1 for none, and (K',) whether
    it does so as a new version."""
    place = {name: k for k, name in enumerate(old)}
    origin = np.array([place.get(name, -1) for name in new.arms], dtype=np.int64)
    before = np.array(
        [place.get(name, -1) for name in new.predecessors or ("",) * len(new.arms)],
        dtype=np.int64,
    )
    inherits = (origin < 0) & (before >= 0)
    return np.where(inherits, before, origin), inherits


def _shares(origin: IntArray, inherits: BoolArray, rows: FloatArray) -> FloatArray:
    return np.array(
        [
            inherited_share(float(rows[k])) if new_version else 1.0
            for k, new_version in zip(origin.tolist(), inherits.tolist(), strict=True)
        ]
    )
