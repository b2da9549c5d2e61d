"""The learned state, and how it follows from the log: ``fold`` row by row, ``refit`` from all.

Everything here is a pure function of its arguments, so that any process that has a snapshot
and the rows after it arrives at the same state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bandit_router import alarms, effort, forgetting, pacing
from bandit_router.alarms import COST, QUALITY
from bandit_router.basis import Basis, cold_basis, coordinates, coordinates_of_rows, fit_basis
from bandit_router.heads import HeadBank
from bandit_router.known_rows import Known, known_rows
from bandit_router.learned_state import LearnedState, LogRows, Problem
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.policies.base import Beliefs, Evidence, Policy
from bandit_router.prior_rows import CARD_ROWS, borne_out, cards, prior_rows, with_card_rows
from bandit_router.types import FloatArray, IntArray, Observation, Prediction
from bandit_router.watching import watched

__all__ = [
    "LearnedState",
    "LogRows",
    "Problem",
    "fold",
    "init_state",
    "predict",
    "refit",
    "with_cards",
    "with_solved_price",
]

# Forgetting is applied once per so many decisions: a factorisation per arm is its price.
FADE_EVERY = 64
# What λ is solved on before any request has come: so many of so many input tokens.
COLD_CONTEXTS = pacing.WINDOW
COLD_INPUT_TOKENS = 200.0


def init_state(problem: Problem, policy: Policy[Any]) -> LearnedState:
    """The state before any row of the log: that of the model cards, and of a prior's rows.

    λ is solved on list prices, or on the prior's, where a budget is to be held: the first
    requests, before any bill, would else go to dear models as often as to cheap ones."""
    basis = cold_basis(problem.feature_names, problem.feature_blocks)
    count = len(problem.arms)
    state = LearnedState(
        basis=basis,
        policy=policy.init(count, basis.dimension),
        effort=effort.empty_effort(count, basis.dimension, problem.typical_amount),
        pacer=pacing.empty_pacer(),
        clock=0,
        since=0,
        pulls=np.zeros(count),
        rewards=np.zeros(count),
        watch=alarms.empty_watch(count),
        half_life_decisions=problem.half_life_decisions,
    )
    if problem.prior is not None:
        return _with_prior(problem, policy, state, problem.prior)
    state = with_cards(problem, policy, state, np.arange(count))
    if not problem.prices.metered[problem.routable].any():
        return state
    return with_solved_price(problem, policy, state)


def with_cards(
    problem: Problem, policy: Policy[Any], state: LearnedState, arms: IntArray
) -> LearnedState:
    """The state in which what their cards say of ``arms`` counts; of their level only."""
    z = np.eye(1, state.basis.dimension)[0]
    level = float(policy.beliefs(state.policy, z).mean.mean())
    learned = state.policy
    for arm, reward in cards(problem, level):
        if arm in arms:
            said = Evidence(arm=arm, z=z, new=reward, old=None, weight=CARD_ROWS)
            learned = policy.update(learned, said)
    return replace(state, policy=learned)


def _with_prior(
    problem: Problem, policy: Policy[Any], state: LearnedState, prior: OutcomePrior
) -> LearnedState:
    """The cold state with the prior's rows in it, and its prompts as the pacer's window."""
    basis = fit_basis(prior.features, problem.feature_names, problem.feature_blocks)
    known = with_card_rows(
        problem,
        prior_rows(problem, basis, prior, state.clock, state.watch, state.half_life_decisions),
    )
    learned = _fitted(problem, policy, state, basis, known)
    recent = slice(max(prior.features.shape[0] - pacing.WINDOW, 0), None)
    rows = np.zeros_like(learned.watch.rows)
    for kind, of in ((QUALITY, known.reward), (COST, known.log_amount)):
        rows[:, kind] = np.bincount(of.arm, weights=of.weight, minlength=len(problem.arms))
    learned = replace(
        learned,
        pacer=replace(
            learned.pacer,
            window=tuple(coordinates_of_rows(basis, prior.features[recent])),
            window_tokens=tuple(float(tokens) for tokens in prior.input_tokens[recent]),
        ),
        # An alarm is to cut what the prior says as well.
        watch=replace(learned.watch, rows=rows),
    )
    return with_solved_price(problem, policy, learned)


def _fitted(
    problem: Problem, policy: Policy[Any], state: LearnedState, basis: Basis, known: Known
) -> LearnedState:
    """The state with heads fitted to what is known, in a new basis."""
    return replace(
        state,
        basis=basis,
        policy=policy.refit(state.policy, known.reward, basis.groups),
        effort=effort.refitted(
            known.log_amount,
            known.log_latency,
            known.log_first_token,
            basis.groups,
            problem.typical_amount,
        ),
    )


def predict(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    z: FloatArray,
    input_tokens: float,
) -> tuple[Beliefs, Prediction]:
    """What to expect of every arm for a request at coordinates z."""
    beliefs = policy.beliefs(state.policy, z)
    latency_s, cost_usd = effort.foreseen(state.effort, problem.prices, z, input_tokens)
    return beliefs, Prediction(
        quality=beliefs.mean,
        quality_sd=beliefs.sd,
        cost_usd=cost_usd,
        latency_s=latency_s,
        first_token_s=effort.predicted_first_token_s(state.effort, z),
    )


def fold(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    row: Observation,
    z: FloatArray | None = None,
) -> LearnedState:
    """The state after one row of the log. Rows of unknown arms change nothing, nor do rows of
    decisions that the last fit did not reach back to: what they would revise is not there.

    z: (d,) the row's coordinates, where they are known already."""
    if row.arm not in problem.arms or row.decision_seq < state.since:
        return state
    arm = problem.arms.index(row.arm)
    if z is None:
        z = coordinates(state.basis, row.features)
    state = faded(problem, policy, state, row.decision_seq)
    weight = state.weight(row.decision_seq, state.clock)
    state = watched(problem, policy, state, row, arm, z)
    believed = weight * state.watch.share(QUALITY, arm, row.decision_seq)
    changes: dict[str, Any] = {}
    if row.reward is not None or row.previous_reward is not None:
        changes["policy"] = policy.update(
            state.policy,
            Evidence(
                arm=arm,
                z=z,
                new=row.reward,
                old=row.previous_reward,
                weight=believed * row.weight,
                old_weight=believed * row.previous_weight,
            ),
        )
        gained = (row.reward is not None) - (row.previous_reward is not None)
        changes["rewards"] = _raised(state.rewards, arm, float(gained))
    if row.answered:
        amount = effort.amount_of(problem.prices, arm, row)
        changes["effort"] = effort.after_call(
            state.effort,
            arm,
            z,
            amount=amount,
            latency_s=row.latency_s,
            weight=weight * state.watch.share(COST, arm, row.decision_seq),
            first_token_s=row.first_token_s,
        )
        changes["pulls"] = _raised(state.pulls, arm, 1.0)
    if not row.answered:
        # A request is paid for once, by its answer; what failed calls cost is owed besides.
        changes["pacer"] = pacing.after_waste(state.pacer, row.cost_usd, problem.budget_usd)
        return replace(state, **changes)
    paid_usd = row.cost_usd
    if paid_usd is None:
        # A call that nobody put a price on is booked at what it was expected to cost.
        _, expected = predict(problem, policy, replace(state, **changes), z, row.input_tokens)
        paid_usd = float(expected.cost_usd[arm])
    pacer = pacing.after_payment(state.pacer, z, row.input_tokens, paid_usd, problem.budget_usd)
    state = replace(state, pacer=pacer, **changes)
    if pacing.due(pacer, pacer.paid - 1):
        state = with_solved_price(problem, policy, state)
    return state


def faded(
    problem: Problem, policy: Policy[Any], state: LearnedState, decision_seq: int
) -> LearnedState:
    """The state with the clock set to ``decision_seq``, once that is far enough ahead."""
    if state.half_life_decisions is None or decision_seq - state.clock < FADE_EVERY:
        return state
    factor = state.weight(state.clock, decision_seq)
    return replace(
        state,
        policy=policy.fade(state.policy, factor),
        effort=effort.faded(state.effort, factor),
        clock=decision_seq,
    )


def with_solved_price(problem: Problem, policy: Policy[Any], state: LearnedState) -> LearnedState:
    """The state with λ solved anew on the pacer's window, under what is now believed."""
    if problem.budget_usd is None:
        return state
    if state.pacer.window:
        # As np.stack, without its checks of each of the rows.
        z = np.concatenate(state.pacer.window).reshape(len(state.pacer.window), -1)
        tokens = np.array(state.pacer.window_tokens)[:, None]
    else:
        z = np.zeros((COLD_CONTEXTS, state.basis.dimension))
        z[:, 0] = 1.0
        tokens = np.full((COLD_CONTEXTS, 1), COLD_INPUT_TOKENS)
    mean, sd = policy.spread(state.policy, z)
    latency_s, cost = effort.foreseen(state.effort, problem.prices, z, tokens)
    drawn = mean + sd * pacing.standard_normals(*mean.shape) - problem.value_of_second * latency_s
    can = problem.routable
    return replace(
        state, pacer=pacing.solved(state.pacer, drawn[:, can], cost[:, can], problem.budget_usd)
    )


def refit(
    problem: Problem, policy: Policy[Any], state: LearnedState, rows: LogRows, since: int = 0
) -> LearnedState:
    """The state with coordinates, noise and scales learned anew from the log's rows.

    since: the first decision_seq that ``rows`` reach back to. The account stays, and so do the
    counts unless they are empty; posteriors are those of ``rows`` alone.
    """
    clock = max(state.clock, int(rows.decision_seq.max()))
    state = replace(state, watch=alarms.dated(state.watch))
    features = rows.features
    if problem.prior is not None:
        features = np.concatenate([problem.prior.features, features])
    basis = fit_basis(features, problem.feature_names, problem.feature_blocks)
    z = coordinates_of_rows(basis, rows.features)
    half_life = problem.half_life_decisions
    if problem.learns_half_life:
        half_life = _learned_half_life(problem, policy, state, basis, rows, z)
    state = replace(state, half_life_decisions=half_life)
    known = known_rows(problem, basis, rows, clock, state.watch, half_life, z)
    if rows.inherited is not None:
        known = known.after(
            known_rows(problem, basis, rows.inherited, clock, state.watch, half_life),
            len(problem.arms),
        )
    if problem.prior is not None:
        told = prior_rows(problem, basis, problem.prior, clock, state.watch, half_life)
        if borne_out(told.reward, known.reward, basis, len(problem.arms)):
            known = known.preceded_by(told)
    known = with_card_rows(problem, known)
    count = len(problem.arms)
    pulls = np.bincount(rows.arm[np.isfinite(rows.cost_usd)], minlength=count)
    rewards = np.bincount(rows.arm[np.isfinite(rows.reward)], minlength=count)
    recent = slice(max(rows.arm.size - pacing.WINDOW, 0), None)
    renewed = replace(
        _fitted(problem, policy, state, basis, known),
        pacer=replace(
            state.pacer,
            window=tuple(z[recent]),
            window_tokens=tuple(float(tokens) for tokens in rows.input_tokens[recent]),
        ),
        clock=clock,
        since=since,
        pulls=state.pulls if state.pulls.any() else pulls.astype(np.float64),
        rewards=state.rewards if state.rewards.any() else rewards.astype(np.float64),
    )
    return with_solved_price(problem, policy, renewed)


def _learned_half_life(
    problem: Problem,
    policy: Policy[Any],
    state: LearnedState,
    basis: Basis,
    rows: LogRows,
    z: FloatArray,
) -> float | None:
    """The half-life that the rows' rewards favour, under the priors of a memory of them all.

    Policies without linear heads have no say: they remember everything."""
    if not isinstance(state.policy, HeadBank):
        return problem.half_life_decisions
    decision_seq = rows.decision_seq[np.isfinite(rows.reward)]
    if not forgetting.askable(decision_seq):
        # A fit more, for nothing.
        return None
    known = known_rows(problem, basis, rows, state.clock, state.watch, None, z).reward
    fitted: HeadBank = policy.refit(state.policy, known, basis.groups)
    return forgetting.chosen_half_life(known, decision_seq, fitted.priors.arms)


def _raised(counts: FloatArray, arm: int, by: float) -> FloatArray:
    raised = counts.copy()
    raised[arm] += by
    return raised
