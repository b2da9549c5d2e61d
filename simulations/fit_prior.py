"""``bandit-router fit-prior``: a prior from an outcome matrix, and how much it is worth.

How many rows of feedback it counts for is what predicts held-out outcomes best, one after the
other and learning all the way, as they would come from a router. What is held out lies inside the
data given: their end, in the file's order, or a split of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from bandit_router.basis import coordinates
from bandit_router.effort import Prices
from bandit_router.errors import DataError
from bandit_router.heads import HeadBank
from bandit_router.learner import FIRST_REFIT_REWARDS, REFIT_GROWTH, log_rows
from bandit_router.learning import Problem, fold, init_state, refit
from bandit_router.outcome_prior import OutcomePrior
from bandit_router.policies import PolicyOptions, build_policy
from bandit_router.protocols import FeatureExtractor
from bandit_router.types import FloatArray, IntArray, Observation
from simulations.matrix import OutcomeMatrix

# The file holds at most so many prompts: a megabyte or so with 256 numbers of text each.
MOST_PROMPTS = 512
# What a prior may count for. Held-out outcomes of the same kind nearly always ask for more; but
# where traffic turns out to be another, a model that is wrongly believed to be bad is tried on one
# request in a hundred, and 30 rows were not outweighed after 2,000 decisions; 10 were.
EFFECTIVE_ROWS = (0.0, 1.0, 3.0, 10.0)
HELD_OUT_SHARE = 0.25
MOST_HELD_OUT = 300
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class FittedPrior:
    """The prior, and the mean log likelihood of a held-out outcome by effective rows."""

    prior: OutcomePrior
    held_out: int
    log_likelihood: dict[float, float]


def fit_prior(
    matrix: OutcomeMatrix,
    features: FloatArray,
    extractor: FeatureExtractor,
    *,
    split: str | None = None,
    calibration_split: str | None = None,
    effective_rows: float | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> FittedPrior:
    """The prior of a matrix's outcomes.

    features: (N, n). split: use these prompts only. calibration_split: hold these out, instead of
    the last quarter. effective_rows: so many, without asking the held-out prompts. Raises
    DataError with the remedy.
    """
    fitted, held_out = _parts(matrix, split, calibration_split)
    prior = _prior_of(matrix, features, extractor, _thinned(fitted, MOST_PROMPTS))
    if effective_rows is not None:
        return FittedPrior(replace(prior, effective_rows=effective_rows), 0, {})
    held_out = _thinned(held_out, MOST_HELD_OUT)
    scores = {}
    for rows in EFFECTIVE_ROWS:
        candidate = replace(prior, effective_rows=rows)
        scores[rows] = _log_likelihood(matrix, features, extractor, candidate, held_out)
        on_step()
    best = max(scores, key=lambda rows: scores[rows])
    return FittedPrior(replace(prior, effective_rows=best), held_out.size, scores)


def _parts(
    matrix: OutcomeMatrix, split: str | None, calibration_split: str | None
) -> tuple[IntArray, IntArray]:
    """Prompts to fit on and prompts held out."""
    splits, usable = np.array(matrix.split), matrix.known.any(axis=1)
    for name in (split, calibration_split):
        if name is not None and not (splits == name).any():
            raise DataError(
                f"no prompt is in split '{name}'; the data have "
                f"{', '.join(sorted(set(matrix.split) - {''})) or 'no split column'}"
            )
    if split is not None and split == calibration_split:
        raise DataError(f"split '{split}' cannot be both fitted on and held out")
    chosen = usable if split is None else usable & (splits == split)
    if calibration_split is not None:
        held_out = np.flatnonzero(usable & (splits == calibration_split))
        fitted = np.flatnonzero(chosen & (splits != calibration_split))
    else:
        rows = np.flatnonzero(chosen)
        kept = math.ceil((1.0 - HELD_OUT_SHARE) * rows.size)
        fitted, held_out = rows[:kept], rows[kept:]
    if not fitted.size or not held_out.size:
        raise DataError(
            f"{fitted.size} prompts to fit on and {held_out.size} to hold out: a prior needs both; "
            "give more data"
        )
    return fitted, held_out


def _thinned(rows: IntArray, most: int) -> IntArray:
    """At most so many of the rows, evenly spread."""
    return rows[np.unique(np.linspace(0, rows.size - 1, min(most, rows.size)).astype(np.int64))]


def _prior_of(
    matrix: OutcomeMatrix, features: FloatArray, extractor: FeatureExtractor, rows: IntArray
) -> OutcomePrior:
    return OutcomePrior(
        models=matrix.models,
        extractor_version=extractor.version,
        features=features[rows],
        input_tokens=_input_tokens(matrix)[rows],
        reward=matrix.quality[rows],
        cost_usd=matrix.cost_usd[rows],
        latency_s=matrix.latency_s[rows],
        output_tokens=matrix.output_tokens[rows],
        effective_rows=0.0,
    )


def _input_tokens(matrix: OutcomeMatrix) -> FloatArray:
    return np.asarray(np.nan_to_num(matrix.input_tokens).max(axis=1))


def _log_likelihood(
    matrix: OutcomeMatrix,
    features: FloatArray,
    extractor: FeatureExtractor,
    prior: OutcomePrior,
    held_out: IntArray,
) -> float:
    """Mean log density of held-out rewards under what was believed just before each; the models
    take turns, as only one of them answers a request."""
    zeros = np.zeros(len(matrix.models))
    problem = Problem(
        arms=matrix.models,
        feature_names=extractor.names,
        feature_blocks=extractor.blocks,
        prices=Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
        routable=np.ones(zeros.size, dtype=np.bool_),
        prior=prior if prior.effective_rows > 0.0 else None,
    )
    policy = build_policy("thompson", PolicyOptions())
    state = init_state(problem, policy)
    seen: list[Observation] = []
    next_refit, total = FIRST_REFIT_REWARDS, 0.0
    for seq, row in enumerate(held_out.tolist()):
        known = np.flatnonzero(matrix.known[row])
        arm = int(known[seq % known.size])
        reward = float(matrix.quality[row, arm])
        z = coordinates(state.basis, features[row])
        bank: HeadBank = state.policy
        beliefs = policy.beliefs(bank, z)
        variance = float(beliefs.sd[arm]) ** 2 + bank.priors.arms[arm].noise
        off = reward - float(beliefs.mean[arm])
        total -= 0.5 * (off * off / variance + math.log(2.0 * math.pi * variance))
        seen.append(
            Observation(
                decision_seq=seq,
                decision_id=NOBODY,
                arm=matrix.models[arm],
                features=features[row],
                input_tokens=0,
                reward=reward,
            )
        )
        state = fold(problem, policy, state, seen[-1])
        if seq + 1 >= next_refit:
            next_refit = int(next_refit * REFIT_GROWTH) + 1
            state = refit(problem, policy, state, log_rows(problem, seen))
    return total / held_out.size


def sentences(fitted: FittedPrior) -> Sequence[str]:
    """What was found, for a person."""
    prior = fitted.prior
    told = [
        f"{prior.features.shape[0]:,} prompts, models {', '.join(prior.models)}; "
        f"features {prior.extractor_version}"
    ]
    if fitted.log_likelihood:
        told.append(f"mean log likelihood of {fitted.held_out:,} held-out outcomes:")
        told += [f"  {rows:>5g} rows  {of:.4f}" for rows, of in fitted.log_likelihood.items()]
    told.append(f"each model's outcomes count as {prior.effective_rows:g} rows of feedback")
    return told
