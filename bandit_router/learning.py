"""The learned state, and how it follows from the log: ``fold`` row by row, ``refit`` from all.

Everything here is a pure function of its arguments, so that any process that has a snapshot
and the rows after it arrives at the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandit_router import alarms, effort, heads, pacing
from bandit_router.alarms import Cut, Watch
from bandit_router.basis import (
    Basis,
    cold_basis,
    coordinates,
    coordinates_of_rows,
    fit_basis,
)
from bandit_router.effort import EffortState, Prices
from bandit_router.evidence import log_evidence
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.pacing import PacerState
from bandit_router.policies import linear
from bandit_router.policies.base import Beliefs, Evidence, Policy, Rows
from bandit_router.posterior import Prior, Sums
from bandit_router.protocols import FeatureBlock
from bandit_router.types import (
    BoolArray,
    FloatArray,
    IntArray,
    Observation,
    Prediction,
    Tier,
)

# Forgetting is applied once per so many decisions: a factorisation per arm is its price.
FADE_EVERY = 64
# What λ is solved on before any request has come: so many of so many input tokens.
COLD_CONTEXTS = pacing.WINDOW
COLD_INPUT_TOKENS = 200.0
QUALITY, COST = range(len(alarms.KINDS))
# A new version of a model starts from at most half of what its predecessor's rows say, and from
# no more than so many of them: as many of its own outweigh that.
INHERITED_SHARE = 0.5
INHERITED_ROWS = 30.0
# A model card is worth two rows of reward: so much above or below what all models earn.
CARD_ROWS = 2.0
CARD_REWARD = {Tier.SMALL: -0.1, Tier.MEDIUM: 0.0, Tier.LARGE: 0.1}
# A prior is left out where the odds against it are a thousand to one; noise and scales are fitted
# to the log's rows alone on the one side, which by itself makes those somewhat likelier.
PRIOR_LOG_ODDS = float(np.log(1e3))
# A prior's rows are as old as the first decision and come before it.
BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class Problem:
    """What is configured and not learned. Arrays are (K,) in the order of ``arms``.

    routable: whether the policy may ever choose the arm. extractor_version: of the features;
    "" where there is only one. predecessors: per arm, the name of the model that it is a new
    version of, or ""; empty where no arm is one. tiers: per arm, what its model card says, a
    first guess; empty where none says anything. prior: outcomes recorded elsewhere.
    """

    arms: tuple[str, ...]
    feature_names: tuple[str, ...]
    feature_blocks: tuple[FeatureBlock, ...]
    prices: Prices
    routable: BoolArray
    budget_usd: float | None = None
    value_of_second: float = 0.0
    half_life_decisions: float | None = None
    extractor_version: str = ""
    predecessors: tuple[str, ...] = ()
    tiers: tuple[Tier | None, ...] = ()
    prior: OutcomePrior | None = None

    @property
    def typical_amount(self) -> FloatArray:
        """(K,) the amount expected of an arm never called."""
        return np.where(self.prices.metered > 0.0, effort.COLD_TOKENS, effort.COLD_DOLLARS)

    def weight(self, decision_seq: int, clock: int) -> float:
        """How much a row of decision ``decision_seq`` counts when the clock shows ``clock``."""
        if self.half_life_decisions is None:
            return 1.0
        return float(0.5 ** ((clock - decision_seq) / self.half_life_decisions))


@dataclass(frozen=True, slots=True)
class LearnedState:
    """Everything learned. policy: the policy's own state. clock: the decision_seq that
    weights are counted from. since: decisions before this decision_seq are past learning from:
    the last fit did not reach back to them. pulls, rewards: (K,) calls and live rewards per arm.
    watch: the alarms, and what earlier rows still count after them.
    """

    basis: Basis
    policy: Any
    effort: EffortState
    pacer: PacerState
    clock: int
    since: int
    pulls: FloatArray
    rewards: FloatArray
    watch: Watch


@dataclass(frozen=True, slots=True)
class LogRows:
    """The log as arrays, one entry per decision. NaN where nothing is known.

    features: (N, n). arm: (N,) the arm that answered. decision_seq: (N,).
    input_tokens, output_tokens, reward, cost_usd, latency_s: (N,). reward_weight: (N,) how
    precise each reward is, beside the most precise kind; None where all are alike. inherited:
    rows of predecessors, under the arms that are new versions of them.
    """

    features: FloatArray
    arm: IntArray
    decision_seq: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    reward: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    reward_weight: FloatArray | None = None
    inherited: LogRows | None = None


def inherited_share(rows: float) -> float:
    """By how much each of a predecessor's ``rows`` counts for its new version."""
    return min(INHERITED_SHARE, INHERITED_ROWS / max(rows, 1.0))


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
    for arm, reward in _cards(problem, level):
        if arm in arms:
            said = Evidence(arm=arm, z=z, new=reward, old=None, weight=CARD_ROWS)
            learned = policy.update(learned, said)
    return replace(state, policy=learned)


def _cards(problem: Problem, level: float) -> list[tuple[int, float]]:
    """Which arms have a card, and what reward it leads to expect beside a mean of ``level``."""
    return [
        (arm, min(max(level + CARD_REWARD[tier], 0.0), 1.0))
        for arm, tier in enumerate(problem.tiers)
        if tier is not None
    ]


def _with_prior(
    problem: Problem, policy: Policy[Any], state: LearnedState, prior: OutcomePrior
) -> LearnedState:
    """The cold state with the prior's rows in it, and its prompts as the pacer's window."""
    basis = fit_basis(prior.features, problem.feature_names, problem.feature_blocks)
    known = _with_card_rows(problem, _prior_known(problem, basis, prior, state.clock, state.watch))
    learned = _fitted(problem, policy, state, basis, known)
    recent = slice(max(prior.features.shape[0] - pacing.WINDOW, 0), None)
    rows = [
        np.bincount(of.arm, weights=of.weight, minlength=len(problem.arms))
        for of in (known.reward, known.log_amount)
    ]
    learned = replace(
        learned,
        pacer=replace(
            learned.pacer,
            window=tuple(coordinates_of_rows(basis, prior.features[recent])),
            window_tokens=tuple(float(tokens) for tokens in prior.input_tokens[recent]),
        ),
        # An alarm is to cut what the prior says as well.
        watch=replace(learned.watch, rows=np.stack(rows, axis=1)),
    )
    return with_solved_price(problem, policy, learned)


def _fitted(
    problem: Problem, policy: Policy[Any], state: LearnedState, basis: Basis, known: _Known
) -> LearnedState:
    """The state with heads fitted to what is known, in a new basis."""
    return replace(
        state,
        basis=basis,
        policy=policy.refit(state.policy, known.reward, basis.groups),
        effort=effort.refitted(
            known.log_amount, known.log_latency, basis.groups, problem.typical_amount
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
    latency_s = effort.predicted_latency_s(state.effort, z)
    amount = effort.predicted_amount(state.effort, z)
    return beliefs, Prediction(
        quality=beliefs.mean,
        quality_sd=beliefs.sd,
        cost_usd=effort.cost_usd(problem.prices, input_tokens, amount, latency_s),
        latency_s=latency_s,
    )


def fold(
    problem: Problem, policy: Policy[Any], state: LearnedState, row: Observation
) -> LearnedState:
    """The state after one row of the log. Rows of unknown arms change nothing, nor do rows of
    decisions that the last fit did not reach back to: what they would revise is not there."""
    if row.arm not in problem.arms or row.decision_seq < state.since:
        return state
    arm = problem.arms.index(row.arm)
    z = coordinates(state.basis, row.features)
    if problem.half_life_decisions is not None and row.decision_seq - state.clock >= FADE_EVERY:
        factor = problem.weight(state.clock, row.decision_seq)
        state = replace(
            state,
            policy=policy.fade(state.policy, factor),
            effort=effort.faded(state.effort, factor),
            clock=row.decision_seq,
        )
    weight = problem.weight(row.decision_seq, state.clock)
    state = _watched(problem, policy, state, row, arm, z)
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
    answered = row.cost_usd is not None or row.latency_s is not None
    if answered:
        amount = effort.observed_amount(problem.prices, arm, row.output_tokens, row.cost_usd)
        changes["effort"] = effort.after_call(
            state.effort,
            arm,
            z,
            amount=amount,
            latency_s=row.latency_s,
            weight=weight * state.watch.share(COST, arm, row.decision_seq),
        )
        changes["pulls"] = _raised(state.pulls, arm, 1.0)
    state = replace(state, **changes)
    if answered:
        paid_usd = row.cost_usd
        if paid_usd is None:
            # A call that nobody put a price on is booked at what it was expected to cost.
            _, expected = predict(problem, policy, state, z, row.input_tokens)
            paid_usd = float(expected.cost_usd[arm])
        pacer = pacing.after_payment(state.pacer, z, row.input_tokens, paid_usd, problem.budget_usd)
        state = replace(state, pacer=pacer)
        if pacing.due(pacer):
            state = with_solved_price(problem, policy, state)
    return state


def _watched(
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
    if row.reward is not None and row.previous_reward is None:
        beliefs = policy.beliefs(state.policy, z)
        mean, sd = float(beliefs.mean[arm]), float(beliefs.sd[arm])
        watch = alarms.after_quality(watch, arm, row.reward, mean, sd, paid)
    amount = effort.observed_amount(problem.prices, arm, row.output_tokens, row.cost_usd)
    if amount is not None:
        off, sd, noise_sd = effort.surprise(state.effort, arm, z, amount)
        watch = alarms.after_cost(watch, arm, off, sd, noise_sd, paid)
    state = replace(state, watch=watch)
    for kind in (QUALITY, COST):
        share = alarms.forgetting(watch, arm, kind, paid)
        if share < 1.0:
            cut = Cut(int(watch.latest[arm]), share)
            state = _cut(problem, policy, state, kind, arm, cut)
    return replace(state, watch=alarms.counted(state.watch, row, arm))


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


def with_solved_price(problem: Problem, policy: Policy[Any], state: LearnedState) -> LearnedState:
    """The state with λ solved anew on the pacer's window, under what is now believed."""
    if problem.budget_usd is None:
        return state
    if state.pacer.window:
        z = np.stack(state.pacer.window)
        tokens = np.array(state.pacer.window_tokens)[:, None]
    else:
        z = np.zeros((COLD_CONTEXTS, state.basis.dimension))
        z[:, 0] = 1.0
        tokens = np.full((COLD_CONTEXTS, 1), COLD_INPUT_TOKENS)
    mean, sd = policy.spread(state.policy, z)
    latency_s = effort.predicted_latency_s(state.effort, z)
    amount = effort.predicted_amount(state.effort, z)
    cost = effort.cost_usd(problem.prices, tokens, amount, latency_s)
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
    features = rows.features
    if problem.prior is not None:
        features = np.concatenate([problem.prior.features, features])
    basis = fit_basis(features, problem.feature_names, problem.feature_blocks)
    z = coordinates_of_rows(basis, rows.features)
    known = _known(problem, basis, rows, clock, state.watch)
    if rows.inherited is not None:
        known = known.after(
            _known(problem, basis, rows.inherited, clock, state.watch), len(problem.arms)
        )
    if problem.prior is not None:
        told = _prior_known(problem, basis, problem.prior, clock, state.watch)
        if _borne_out(told.reward, known.reward, basis, len(problem.arms)):
            known = known.preceded_by(told)
    known = _with_card_rows(problem, known)
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What the log says of each of the three things that are regressed on the coordinates."""

    reward: Rows
    log_amount: Rows
    log_latency: Rows

    def after(self, inherited: _Known, arm_count: int) -> _Known:
        """These rows after what the arms inherit, in so far as that counts."""
        return _Known(
            _after(self.reward, inherited.reward, arm_count),
            _after(self.log_amount, inherited.log_amount, arm_count),
            _after(self.log_latency, inherited.log_latency, arm_count),
        )

    def preceded_by(self, told: _Known) -> _Known:
        """These rows after a prior's."""
        return _Known(
            _joined(told.reward, self.reward),
            _joined(told.log_amount, self.log_amount),
            _joined(told.log_latency, self.log_latency),
        )


def _prior_known(
    problem: Problem, basis: Basis, prior: OutcomePrior, clock: int, watch: Watch
) -> _Known:
    """What a prior's rows say, each at the prior's weight; a prompt's models one by one."""
    place, weight = prior.places(problem.arms), prior.weights()
    prompt, model = np.nonzero(np.isfinite(prior.reward) & (place >= 0) & (weight > 0.0))
    rows = LogRows(
        features=prior.features[prompt],
        arm=place[model],
        decision_seq=np.full(prompt.size, BEFORE_ALL, dtype=np.int64),
        input_tokens=prior.input_tokens[prompt],
        output_tokens=prior.output_tokens[prompt, model],
        reward=prior.reward[prompt, model],
        cost_usd=prior.cost_usd[prompt, model],
        latency_s=prior.latency_s[prompt, model],
    )
    known = _known(problem, basis, rows, clock, watch)
    of_arm = np.zeros(len(problem.arms))
    of_arm[place[place >= 0]] = weight[place >= 0]

    def weighed(of: Rows) -> Rows:
        return replace(of, weight=of.weight * of_arm[of.arm])

    return _Known(weighed(known.reward), weighed(known.log_amount), weighed(known.log_latency))


def _borne_out(told: Rows, own: Rows, basis: Basis, arm_count: int) -> bool:
    """Whether the log's rewards are about as likely after a prior's rows as without them.

    Asked of all models at once: one of which a prior was far off speaks for those it keeps from
    being tried. log p(own | told) = log p(told, own) − log p(told).
    """
    if not own.value.size or not told.value.size:
        return True
    cold = linear.cold_prior(basis.dimension)

    def sums(rows: Rows) -> list[Sums]:
        return heads.sums_by_arm(rows.z, rows.arm, rows.value, rows.weight, arm_count)

    def fitted(of: list[Sums]) -> tuple[Prior, ...]:
        return heads.refitted(
            of,
            basis.groups,
            cold,
            bias_sd=linear.COLD_BIAS_SD,
            least_noise=linear.LEAST_NOISE,
        ).priors.arms

    alone, before, both = sums(own), sums(told), sums(_joined(told, own))
    after = fitted(both)
    with_prior = sum(map(log_evidence, both, after)) - sum(map(log_evidence, before, after))
    without = sum(map(log_evidence, alone, fitted(alone)))
    return bool(with_prior + PRIOR_LOG_ODDS >= without)


def _with_card_rows(problem: Problem, known: _Known) -> _Known:
    """What is known, after what the model cards say beside the mean of all rewards."""
    reward = known.reward
    if reward.weight.sum() <= 0.0:
        return known
    cards = _cards(problem, float(np.average(reward.value, weights=reward.weight)))
    z = np.zeros((len(cards), reward.z.shape[1]))
    z[:, 0] = 1.0
    said = Rows(
        z=z,
        arm=np.array([arm for arm, _ in cards], dtype=np.int64),
        value=np.array([value for _, value in cards], dtype=np.float64),
        weight=np.full(len(cards), CARD_ROWS),
    )
    return replace(known, reward=_joined(said, reward))


def _joined(first: Rows, then: Rows) -> Rows:
    return Rows(
        z=np.concatenate([first.z, then.z]),
        arm=np.concatenate([first.arm, then.arm]),
        value=np.concatenate([first.value, then.value]),
        weight=np.concatenate([first.weight, then.weight]),
    )


def _known(problem: Problem, basis: Basis, rows: LogRows, clock: int, watch: Watch) -> _Known:
    z = coordinates_of_rows(basis, rows.features)
    age = np.array([problem.weight(max(int(seq), 0), clock) for seq in rows.decision_seq])
    amount = np.where(
        problem.prices.metered[rows.arm] > 0.0, np.maximum(rows.output_tokens, 1.0), rows.cost_usd
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log_amount = np.log(np.maximum(amount, effort.LEAST_AMOUNT))
        log_latency = np.log(rows.latency_s)

    def of(values: FloatArray, weight: FloatArray) -> Rows:
        there = np.isfinite(values)
        return Rows(z=z[there], arm=rows.arm[there], value=values[there], weight=weight[there])

    precise = age if rows.reward_weight is None else age * rows.reward_weight
    believed, spent = (watch.shares(kind, rows.arm, rows.decision_seq) for kind in (QUALITY, COST))
    return _Known(
        of(rows.reward, precise * believed),
        of(log_amount, age * spent),
        of(log_latency, age * spent),
    )


def _after(own: Rows, inherited: Rows, arm_count: int) -> Rows:
    of_arm = np.bincount(inherited.arm, weights=inherited.weight, minlength=arm_count)
    share = np.array([inherited_share(float(rows)) for rows in of_arm])
    return _joined(replace(inherited, weight=inherited.weight * share[inherited.arm]), own)


def _raised(counts: FloatArray, arm: int, by: float) -> FloatArray:
    raised = counts.copy()
    raised[arm] += by
    return raised
