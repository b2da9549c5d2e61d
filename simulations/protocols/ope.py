"""Do the intervals of off-policy estimates hold? On logs of learners, where the truth is known.

Two worlds: a synthetic one, where a learner moves its probabilities with every batch, and a
recorded outcome matrix, where ``thompson`` itself routes the first half of the prompts and
the targets are fixed models, a static mix, two policies frozen after learning on the other half,
and one that is greedy about what it learned there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandit_router.basis import coordinates_of_rows, fit_basis
from bandit_router.config import ExplorationConfig
from bandit_router.ope import (
    Estimate,
    Evaluation,
    LoggedRounds,
    Options,
    Target,
    evaluate,
    fixed,
    logged_rounds,
    mix,
)
from bandit_router.types import FloatArray, IntArray
from simulations.frozen import FrozenPolicy
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.simulate import Study, make_study, named_policy
from simulations.workers import spread

ARMS, DIMENSION, ROUNDS, BATCH, FLOOR = 4, 5, 2000, 100, 0.04
# A log that is meant to be evaluated keeps some chance for every model.
EVALUABLE = ExplorationConfig(floor=0.1, floor_spend_share=1.0, floor_quality_loss=1.0)
LEARNED_BUDGETS_USD = (2.3e-4, 1.9e-3)
# Always what looked best at the tightest budget, where a log without one has hardly been.
GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Scored:
    """One estimate against the truth. key: what it is an estimate by."""

    target: str
    key: str
    error: float
    inside: bool | None
    refused: str | None


def synthetic_log(seed: int) -> tuple[LoggedRounds, dict[str, Target], dict[str, float]]:
    """A learner's log, targets and their true values. The world is the same for all seeds."""
    world = np.random.default_rng(7)
    weights = world.normal(size=(DIMENSION, ARMS)) * 0.12
    weights -= weights.mean(axis=0)

    def quality(x: FloatArray) -> FloatArray:
        return np.clip(np.array([0.45, 0.55, 0.6, 0.7]) + np.tanh(x) @ weights, 0.02, 0.98)

    def wanted(x: FloatArray) -> FloatArray:
        liking = np.exp(6.0 * quality(x))
        return np.asarray(liking / liking.sum(axis=1, keepdims=True))

    rng = np.random.default_rng([seed, 1])
    x = rng.normal(size=(ROUNDS, DIMENSION))
    truth = quality(x)
    pmf, arm, reward = np.zeros((ROUNDS, ARMS)), np.zeros(ROUNDS, dtype=np.int64), np.zeros(ROUNDS)
    gram = np.tile(np.eye(DIMENSION + 1), (ARMS, 1, 1))
    moment = np.zeros((ARMS, DIMENSION + 1))
    design = np.hstack([np.ones((ROUNDS, 1)), x])
    for start in range(0, ROUNDS, BATCH):
        part = slice(start, start + BATCH)
        belief = design[part] @ np.linalg.solve(gram, moment[:, :, None])[:, :, 0].T
        liking = np.exp(8.0 * (belief - belief.max(axis=1, keepdims=True)))
        share = liking / liking.sum(axis=1, keepdims=True)
        pmf[part] = FLOOR + (1.0 - ARMS * FLOOR) * share
        uniform = rng.random(BATCH)[:, None]
        arm[part] = np.minimum((pmf[part].cumsum(axis=1) < uniform).sum(axis=1), ARMS - 1)
        rows = np.arange(start, start + BATCH)
        reward[rows] = rng.beta(4.0 * truth[rows, arm[rows]], 4.0 * (1.0 - truth[rows, arm[rows]]))
        for k in range(ARMS):
            mine = rows[arm[rows] == k]
            gram[k] += design[mine].T @ design[mine]
            moment[k] += reward[mine] @ design[mine]
    log = logged_rounds(
        arms=[f"model-{k}" for k in range(ARMS)], arm=arm, pmf=pmf, reward=reward, features=x
    )
    shares = [0.4, 0.3, 0.2, 0.1]
    targets: dict[str, Target] = {
        "fixed:model-0": fixed("model-0"),
        "fixed:model-2": fixed("model-2"),
        "mix": mix(shares),
        "soft": lambda rounds: wanted(np.asarray(rounds.features, dtype=np.float64)),
    }
    many = np.random.default_rng(8).normal(size=(200_000, DIMENSION))
    every = quality(many)
    true = {
        "fixed:model-0": float(every[:, 0].mean()),
        "fixed:model-2": float(every[:, 2].mean()),
        "mix": float((every @ shares).mean()),
        "soft": float((every * wanted(many)).sum(axis=1).mean()),
    }
    return log, targets, true


def score_synthetic(resamples: int, seed: int) -> list[Scored]:
    """One synthetic log, all estimators and intervals."""
    log, targets, true = synthetic_log(seed)
    options = Options(outcomes=("reward",), resamples=resamples, seed=seed)
    return _scored(evaluate(log, targets, options), true)


@dataclass(frozen=True, slots=True)
class Half:
    """The first half of a matrix as a study, with targets that were learned on the other.

    coordinates: (N, d) of all prompts. frozen: (N, K) pmfs by name. shares: of the static mix.
    """

    study: Study
    rows: IntArray
    coordinates: FloatArray
    frozen: Mapping[str, FloatArray]
    shares: tuple[float, ...]


def half_of(matrix: OutcomeMatrix, on_prompt: Callable[[], None] = lambda: None) -> Half:
    """Split the prompts that every model has answered, learn on the second half."""
    study = make_study(
        matrix,
        policy="thompson",
        budget_usd=None,
        warmup_split=None,
        score_split=None,
        text="hashed",
        metadata=(),
        on_prompt=on_prompt,
    )
    whole = np.flatnonzero(matrix.known.all(axis=1))
    first, second = whole[: whole.size // 2], whole[whole.size // 2 :]
    basis = fit_basis(
        study.features[first], study.problem.feature_names, study.problem.feature_blocks
    )
    tokens = np.nan_to_num(matrix.input_tokens.max(axis=1))
    frozen: dict[str, FloatArray] = {}
    for budget_usd in LEARNED_BUDGETS_USD:
        problem = replace(study.problem, budget_usd=budget_usd)
        policy = named_policy("thompson", problem.arms)
        rng = np.random.default_rng(0)
        _, state = replay(
            matrix,
            study.features,
            rng.permutation(second),
            problem,
            policy,
            ExplorationConfig(),
            rng,
        )
        name = f"snapshot at ${budget_usd:.2g}"
        taken = FrozenPolicy(name, problem, policy, state, ExplorationConfig())
        pmf = np.zeros(matrix.quality.shape)
        pmf[first] = taken.pmf(
            study.features[first], tokens[first], matrix.known[first], problem.arms
        )
        frozen[name] = pmf
    tightest = frozen[f"snapshot at ${min(LEARNED_BUDGETS_USD):.2g}"]
    frozen[GREEDY] = np.zeros(matrix.quality.shape)
    frozen[GREEDY][first] = np.eye(len(matrix.models))[tightest[first].argmax(axis=1)]
    count = len(matrix.models)
    return Half(
        study=study,
        rows=first,
        coordinates=coordinates_of_rows(basis, study.features)[:, 1:],
        frozen=frozen,
        shares=tuple(np.full(count, 1.0 / count).tolist()),
    )


def score_recorded(shared: tuple[Half, ExplorationConfig, int], seed: int) -> list[Scored]:
    """One log of ``thompson`` on the half's prompts, shuffled by the seed."""
    half, exploration, resamples = shared
    study, matrix = half.study, half.study.matrix
    rng = np.random.default_rng(seed)
    order = rng.permutation(half.rows)
    policy = named_policy("thompson", study.problem.arms)
    trace, _ = replay(
        matrix, study.features, order, study.problem, policy, exploration, rng, record=True
    )
    assert trace.records is not None
    log = logged_rounds(
        arms=study.problem.arms,
        arm=trace.arm,
        pmf=trace.records.pmf,
        eligible=trace.records.eligible,
        reward=trace.reward,
        cost_usd=trace.cost_usd,
        features=half.coordinates[order],
    )
    targets: dict[str, Target] = {f"fixed:{arm}": fixed(arm) for arm in study.problem.arms}
    targets["static mix"] = mix(half.shares)
    quality = matrix.quality[order]
    true = {f"fixed:{arm}": float(quality[:, k].mean()) for k, arm in enumerate(study.problem.arms)}
    true["static mix"] = float((quality @ np.array(half.shares)).mean())
    for name, pmf in half.frozen.items():
        mine = pmf[order]
        targets[name] = _of_order(mine)
        true[name] = float((quality * mine).sum(axis=1).mean())
    options = Options(outcomes=("reward",), resamples=resamples, seed=seed)
    return _scored(evaluate(log, targets, options), true)


def run_synthetic(
    logs: int, resamples: int, jobs: int, on_log: Callable[[], None]
) -> dict[str, Any]:
    """Coverage of every interval on synthetic adaptive logs."""
    results = spread(score_synthetic, resamples, range(logs), jobs, on_log)
    return summary(each for result in results for each in result)


def run_recorded(
    half: Half,
    exploration: ExplorationConfig,
    logs: int,
    resamples: int,
    jobs: int,
    on_log: Callable[[], None],
) -> dict[str, Any]:
    """Coverage, error and refusals on logs of ``thompson``."""
    shared = (half, exploration, resamples)
    results = spread(score_recorded, shared, range(logs), jobs, on_log)
    return summary(each for result in results for each in result)


def summary(scored: Iterable[Scored]) -> dict[str, Any]:
    """By target and by estimate: logs, refusals and their reasons, coverage, root mean square
    error; and DR's error over that of IPS, on the same logs."""
    by: dict[str, dict[str, list[Scored]]] = defaultdict(lambda: defaultdict(list))
    for each in scored:
        by[each.target][each.key].append(each)
    told: dict[str, Any] = {}
    for target, keys in by.items():
        rows = {key: _row(found) for key, found in keys.items()}
        ips, dr = rows["ips/bootstrap"]["rmse"], rows["dr/bootstrap"]["rmse"]
        told[target] = {"dr_over_ips": dr / ips if ips and dr else None, "estimates": rows}
    return told


def _row(found: Sequence[Scored]) -> dict[str, Any]:
    kept = [each for each in found if each.refused is None]
    judged = [each.inside for each in kept if each.inside is not None]
    reasons: dict[str, int] = defaultdict(int)
    for each in found:
        if each.refused:
            reasons[each.refused] += 1
    return {
        "logs": len(found),
        "refused": dict(reasons),
        "coverage": float(np.mean(judged)) if judged else None,
        "rmse": float(np.sqrt(np.mean([each.error**2 for each in kept]))) if kept else None,
        "bias": float(np.mean([each.error for each in kept])) if kept else None,
    }


def _scored(found: Mapping[str, Evaluation], true: Mapping[str, float]) -> list[Scored]:
    return [
        _judged(name, each, true[name])
        for name, evaluation in found.items()
        for each in evaluation.estimates
    ]


def _judged(target: str, each: Estimate, truth: float) -> Scored:
    inside = None if each.interval is None else each.interval[0] <= truth <= each.interval[1]
    return Scored(
        target=target,
        key=f"{each.estimator}/{each.method}",
        error=each.value - truth,
        inside=inside,
        refused=None if each.refused is None else str(each.refused.reason),
    )


def _of_order(pmf: FloatArray) -> Target:
    return lambda rounds: np.asarray(pmf[rounds.order])
