"""Evaluate a learning policy on logged traffic, by rejection: it learns from what it would have
done itself, and the price is stated in rounds that were lost.

A round is accepted with probability w / limit, w being the learner's over the logged
probability of the round's arm; what is accepted is distributed as if the learner had chosen,
so that it learns as it would have. Where w exceeds the limit the chance is cut, which is bias:
the share of such rounds is stated too. Source: Li et al. 2011; Dudík et al. 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.config import ExplorationConfig
from bandit_router.learning import LearnedState, Problem, fold, init_state
from bandit_router.ope.estimate import Limits, Refusal, RefusalReason
from bandit_router.ope.refusal import decisions_for
from bandit_router.ope.rounds import LoggedRounds
from bandit_router.policies.base import Policy
from bandit_router.selection import select
from bandit_router.types import FloatArray, IntArray, Observation

# So many times more often than the log may the learner choose an arm before rounds are cut.
WEIGHT_LIMIT = 10.0
# More cut rounds than this are too much bias to call it the learner's own run.
MOST_CUT = 0.05
_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class LearningReplay:
    """What a learner did on the rounds it accepted.

    accepted: (m,) places in the log. reward, cost_usd: (m,), NaN where not known. value: mean
    reward, NaN where refused; standard_error: of it. lost: share of rounds not accepted. cut:
    share of rounds whose weight was over the limit, in the learner's own measure.
    """

    accepted: IntArray
    reward: FloatArray
    cost_usd: FloatArray
    value: float
    standard_error: float
    lost: float
    cut: float
    refused: Refusal | None
    state: LearnedState


def replay_learning(
    rounds: LoggedRounds,
    problem: Problem,
    policy: Policy[Any],
    rng: np.random.Generator,
    *,
    exploration: ExplorationConfig,
    weight_limit: float = WEIGHT_LIMIT,
    limits: Limits | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> LearningReplay:
    """Run a cold learner over the log. ``rounds.features`` are those that ``problem`` names, as
    extracted, and its arms are the log's, in the same order."""
    limits = limits or Limits()
    state = init_state(problem, policy)
    accepted: list[int] = []
    over = 0.0
    uniforms = rng.random(len(rounds))
    for i in range(len(rounds)):
        features = np.asarray(rounds.features[i], dtype=np.float64)
        pmf = select(
            problem, policy, state, features, 0.0, rounds.eligible[i], exploration, None
        ).pmf
        # What the cut takes away of the learner's own choices on this request.
        over += float(np.maximum(pmf - weight_limit * rounds.pmf[i], 0.0).sum())
        on_round()
        if uniforms[i] * weight_limit * rounds.propensity[i] >= pmf[rounds.arm[i]]:
            continue
        accepted.append(i)
        state = fold(problem, policy, state, _observation(rounds, problem, i, features))
    kept = np.array(accepted, dtype=np.int64)
    reward = rounds.reward[kept]
    known = reward[np.isfinite(reward)]
    refused = _refusal(len(rounds), known.size, over / max(len(rounds), 1), limits, weight_limit)
    return LearningReplay(
        accepted=kept,
        reward=reward,
        cost_usd=rounds.cost_usd[kept],
        value=float("nan") if refused else float(known.mean()),
        standard_error=float("nan") if refused else float(known.std() / np.sqrt(known.size)),
        lost=1.0 - kept.size / max(len(rounds), 1),
        cut=over / max(len(rounds), 1),
        refused=refused,
        state=state,
    )


def _observation(
    rounds: LoggedRounds, problem: Problem, i: int, features: FloatArray
) -> Observation:
    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Observation(
        decision_seq=i,
        decision_id=_NOBODY,
        arm=problem.arms[rounds.arm[i]],
        features=features,
        input_tokens=0,
        reward=known(rounds.reward[i]),
        cost_usd=known(rounds.cost_usd[i]),
        latency_s=known(rounds.latency_s[i]),
    )


def _refusal(n: int, known: int, cut: float, limits: Limits, weight_limit: float) -> Refusal | None:
    if known < limits.least_effective_sample_size:
        return Refusal(
            RefusalReason.EFFECTIVE_SAMPLE_SIZE,
            f"of {n} decisions {known} with feedback were accepted, fewer than "
            f"{limits.least_effective_sample_size:.0f}: log more, or with more exploration",
            more_decisions=decisions_for(n, float(known), limits.least_effective_sample_size),
        )
    if cut > MOST_CUT:
        return Refusal(
            RefusalReason.LARGEST_WEIGHT,
            f"{cut:.1%} of the learner's choices are over {weight_limit:g} times as likely as the "
            "log's, so the run is not its own: raise the weight limit, at the price of rounds",
        )
    return None
