"""What was believed before the log: model cards, and outcomes recorded elsewhere, as rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bandit_router import heads
from bandit_router.alarms import Watch
from bandit_router.basis import Basis
from bandit_router.evidence import log_evidence
from bandit_router.known_rows import Known, joined, known_rows
from bandit_router.learned_state import LogRows, Problem
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.policies import linear
from bandit_router.policies.base import Rows
from bandit_router.posterior import Prior, Sums
from bandit_router.types import Tier

# A model card is worth two rows of reward: so much above or below what all models earn.
CARD_ROWS = 2.0
CARD_REWARD = {Tier.SMALL: -0.1, Tier.MEDIUM: 0.0, Tier.LARGE: 0.1}
# A prior is left out where the odds against it are a thousand to one; noise and scales are fitted
# to the log's rows alone on the one side, which by itself makes those somewhat likelier.
PRIOR_LOG_ODDS = float(np.log(1e3))
# A prior's rows are as old as the first decision and come before it.
BEFORE_ALL = -1


def cards(problem: Problem, level: float) -> list[tuple[int, float]]:
    """Which arms have a card, and what reward it leads to expect beside a mean of ``level``."""
    return [
        (arm, min(max(level + CARD_REWARD[tier], 0.0), 1.0))
        for arm, tier in enumerate(problem.tiers)
        if tier is not None
    ]


def with_card_rows(problem: Problem, known: Known) -> Known:
    """What is known, after what the model cards say beside the mean of all rewards."""
    reward = known.reward
    if reward.weight.sum() <= 0.0:
        return known
    of_arms = cards(problem, float(np.average(reward.value, weights=reward.weight)))
    z = np.zeros((len(of_arms), reward.z.shape[1]))
    z[:, 0] = 1.0
    said = Rows(
        z=z,
        arm=np.array([arm for arm, _ in of_arms], dtype=np.int64),
        value=np.array([value for _, value in of_arms], dtype=np.float64),
        weight=np.full(len(of_arms), CARD_ROWS),
    )
    return replace(known, reward=joined(said, reward))


def prior_rows(
    problem: Problem,
    basis: Basis,
    prior: OutcomePrior,
    clock: int,
    watch: Watch,
    half_life_decisions: float | None,
) -> Known:
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
    known = known_rows(problem, basis, rows, clock, watch, half_life_decisions)
    of_arm = np.zeros(len(problem.arms))
    of_arm[place[place >= 0]] = weight[place >= 0]

    def weighed(of: Rows) -> Rows:
        return replace(of, weight=of.weight * of_arm[of.arm])

    return Known(
        weighed(known.reward),
        weighed(known.log_amount),
        weighed(known.log_latency),
        weighed(known.log_first_token),
    )


def borne_out(told: Rows, own: Rows, basis: Basis, arm_count: int) -> bool:
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

    alone, before, both = sums(own), sums(told), sums(joined(told, own))
    after = fitted(both)
    with_prior = sum(map(log_evidence, both, after)) - sum(map(log_evidence, before, after))
    without = sum(map(log_evidence, alone, fitted(alone)))
    return bool(with_prior + PRIOR_LOG_ODDS >= without)
