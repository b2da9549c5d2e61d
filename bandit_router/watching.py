"""Settle the alarms' bets on each row, and let an alarm shorten its arm's memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bandit_router import alarms, effort, failure_rate, pacing
from bandit_router.alarms import COST, QUALITY, At, Cut, Watch
from bandit_router.bets import settle_rows
from bandit_router.known_rows import Known
from bandit_router.learned_state import LearnedState, LogRows, Problem
from bandit_router.policies.base import InBlocks, Policy
from bandit_router.types import FloatArray, Observation


def watched(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    row: Observation,
    arm: int,
    z: FloatArray,
) -> LearnedState:
    """The state after the bets on a row are settled; an alarm makes the arm's earlier rows
    count little, and while the arm is watched its memory stays short."""
    paid, watch = state.pacer.paid, state.watch
    at = At(row.decision_seq, paid)
    if row.reward is not None and row.previous_reward is None:
        mean, sd = policy.belief_of(state.policy, z, arm)
        watch = alarms.after_quality(watch, arm, row.reward, mean, sd, at)
    amount = effort.amount_of(problem.prices, arm, row)
    if amount is not None:
        off, sd, noise_sd = effort.surprise(state.effort, arm, z, amount)
        watch = alarms.after_cost(watch, arm, off, sd, noise_sd, at)
    watch = failure_rate.after_row(watch, arm, row, at)
    shares = [(kind, alarms.forgetting(watch, arm, kind, paid)) for kind in (QUALITY, COST)]
    if any(share < 1.0 for _, share in shares):
        state = replace(state, watch=watch)
        for kind, share in shares:
            if share < 1.0:
                cut = Cut(int(watch.latest[arm]), share)
                state = _cut(problem, policy, state, kind, arm, cut)
        watch = state.watch
    if watch.age(arm, COST, paid) == 0.0:
        state = replace(state, pacer=pacing.without_surplus(state.pacer))
    elif watch.age(arm, QUALITY, paid) == 0.0:
        state = replace(state, pacer=pacing.unsteadied(state.pacer))
    return replace(state, watch=alarms.counted(watch, row, arm))


def quietly(
    policy: InBlocks[Any], state: LearnedState, known: Known, rows: LogRows
) -> Watch | None:
    """The watch after the bets on many new rows are settled, all on what is believed now; None
    where an arm is watched or an alarm would be raised.

    known: the rows' rewards and log amounts.
    """
    watch = state.watch
    if alarms.anyone_watched(watch, state.pacer.paid):
        return None
    amounts = known.log_amount.arm.size
    if amounts not in (0, rows.arm.size):
        return None
    rewarded = np.isfinite(rows.reward)
    predicted = policy.predicted(state.policy, known.reward.z, known.reward.arm)
    capital, runs = watch.capital.copy(), watch.runs.copy()
    for kind, about, gains in (
        (QUALITY, rewarded, alarms.quality_gains_of_rows(known.reward.value, *predicted)),
        (
            COST,
            slice(amounts),
            alarms.cost_gains_of_rows(*effort.surprises(state.effort, known.log_amount)),
        ),
    ):
        arms, decision_seq = rows.arm[about], rows.decision_seq[about]
        for arm in set(arms.tolist()):
            own = arms == arm
            reached = settle_rows(
                capital[arm, kind], runs[arm, kind], gains[own], decision_seq[own]
            )
            if reached >= alarms.ODDS:
                return None
    counts, latest = watch.rows.copy(), watch.latest.copy()
    counts[:, QUALITY] += np.bincount(rows.arm[rewarded], minlength=latest.size)
    counts[:, COST] += np.bincount(rows.arm, minlength=latest.size)
    np.maximum.at(latest, rows.arm, rows.decision_seq.astype(np.float64))
    return alarms.moved_on(watch, capital=capital, runs=runs, rows=counts, latest=latest)


def _cut(
    problem: Problem, policy: Policy[Any], state: LearnedState, kind: int, arm: int, cut: Cut
) -> LearnedState:
    """The state in which the arm's rows up to the cut count by its share."""
    count = len(problem.arms)
    every, shares = np.arange(count), np.ones(count)
    shares[arm] = cut.share
    state = replace(state, watch=alarms.with_cut(state.watch, kind, arm, cut))
    if kind == QUALITY:
        return replace(state, policy=policy.carried(state.policy, every, shares))
    alike = np.ones(count, dtype=np.bool_)
    carried = effort.carried(state.effort, every, shares, state.effort.typical, alike)
    return replace(state, effort=carried)
