"""Replay a policy over several shuffles of an outcome matrix, and sum up what it earned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bandit_router.config import ExplorationConfig, FeaturesConfig
from bandit_router.effort import Prices
from bandit_router.errors import DataError
from bandit_router.features import build_extractor
from bandit_router.learning import Problem
from bandit_router.outcome_prior import OutcomePrior, check_fits
from bandit_router.policies import Policy, PolicyOptions, build_policy
from bandit_router.protocols import FeatureExtractor
from bandit_router.types import FloatArray, IntArray, RoutingRequest
from simulations.baselines import (
    Baseline,
    best_single,
    mean_of_known,
    oracle,
    static_mix,
    uniform,
)
from simulations.cascade import CASCADE, run_cascade
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.workers import spread


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that the replays of one command share.

    warmup, score: row indices learned from without and with being scored, each shuffled by
    the seed. features: (N, n).
    """

    matrix: OutcomeMatrix
    features: FloatArray
    warmup: IntArray
    score: IntArray
    problem: Problem
    policy_name: str
    exploration: ExplorationConfig


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One replay's scored part. shares: (K,). row, arm: (n,) what was chosen for which prompt,
    one request after the other."""

    seed: int
    reward: float
    cost_usd: float
    shares: FloatArray
    row: IntArray
    arm: IntArray


@dataclass(frozen=True, slots=True)
class Summary:
    """What the seeds say together, in the words of the JSON report."""

    policy: str
    budget_usd: float | None
    requests: int
    seeds: tuple[SeedResult, ...]
    models: tuple[str, ...]
    baselines: dict[str, Baseline]

    @property
    def reward(self) -> float:
        """Mean over seeds of the mean scored reward."""
        return float(np.mean([seed.reward for seed in self.seeds]))

    @property
    def reward_ci95(self) -> tuple[float, float] | None:
        """Student's t interval over seeds; None for a single seed."""
        count = len(self.seeds)
        if count < 2:
            return None
        spread = float(np.std([seed.reward for seed in self.seeds], ddof=1)) / count**0.5
        half = float(stdtrit(count - 1, 0.975)) * spread
        return self.reward - half, self.reward + half

    @property
    def cost_usd(self) -> float:
        """Mean over seeds of the mean scored dollars per request."""
        return float(np.mean([seed.cost_usd for seed in self.seeds]))

    @property
    def utilisation(self) -> tuple[float, float] | None:
        """Mean share of the budget spent, and that of the seed farthest from one."""
        if not self.budget_usd:
            return None
        ratios = [seed.cost_usd / self.budget_usd for seed in self.seeds]
        return float(np.mean(ratios)), max(ratios, key=lambda ratio: abs(ratio - 1.0))

    @property
    def regret(self) -> float:
        """Mean reward per request that the oracle at the same budget would have had on top."""
        return self.baselines["oracle"].reward - self.reward

    @property
    def shares(self) -> dict[str, float]:
        """Mean share of scored requests per model."""
        mean = np.mean([seed.shares for seed in self.seeds], axis=0)
        return {name: float(share) for name, share in zip(self.models, mean, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """The report, with the keys that the documentation names."""
        interval, utilisation = self.reward_ci95, self.utilisation
        return {
            "policy": self.policy,
            "budget_usd": self.budget_usd,
            "seeds": len(self.seeds),
            "requests": self.requests,
            "reward": {"mean": self.reward, "ci95": list(interval) if interval else None},
            "cost_usd": {"mean": _number(self.cost_usd)},
            "utilisation": {"mean": utilisation[0], "worst": utilisation[1]}
            if utilisation
            else None,
            "shares": self.shares,
            "regret": self.regret,
            "baselines": {
                name: {"reward": _number(b.reward), "cost_usd": _number(b.cost_usd)}
                for name, b in self.baselines.items()
            },
        }


def make_study(
    matrix: OutcomeMatrix,
    *,
    policy: str,
    budget_usd: float | None,
    warmup_split: str | None,
    score_split: str | None,
    text: str,
    metadata: Sequence[str],
    exploration: ExplorationConfig | None = None,
    prior: OutcomePrior | None = None,
    on_prompt: Callable[[], None] = lambda: None,
) -> Study:
    """Check what was asked against the matrix, and extract features once for all seeds.

    metadata: columns of the matrix that become features (``category``). prior: what is believed
    before the first request. on_prompt is called after each prompt. Raises DataError or ConfigError
    with the remedy.
    """
    unknown = [name for name in metadata if name != "category"]
    if unknown:
        raise DataError(
            f"no metadata column {', '.join(unknown)} in an outcome matrix; only category can be "
            "used as a feature"
        )
    if budget_usd is not None and not np.isfinite(matrix.cost_usd[matrix.known]).all():
        raise DataError(
            f"a budget of ${budget_usd:g} needs cost_usd for every outcome, and "
            f"{int((~np.isfinite(matrix.cost_usd[matrix.known])).sum())} outcomes have none; "
            "leave --budget out or fill the column"
        )
    extractor = build_extractor(FeaturesConfig.model_validate({"text": text, "metadata": metadata}))
    warmup, score = split_rows(matrix, warmup_split, score_split)
    # A policy of an unknown name is told before minutes of feature extraction.
    if policy != CASCADE:
        named_policy(policy, matrix.models)
    if prior is not None:
        check_fits(prior, matrix.models, extractor.names, extractor.version, "the prior")
    zeros = np.zeros(len(matrix.models))
    return Study(
        matrix=matrix,
        features=extract_features(matrix, extractor, metadata, on_prompt),
        warmup=warmup,
        score=score,
        problem=Problem(
            learns_half_life=True,
            arms=matrix.models,
            feature_names=extractor.names,
            feature_blocks=extractor.blocks,
            prices=Prices(input_usd=zeros, output_usd=zeros, second_usd=zeros),
            routable=np.ones(len(matrix.models), dtype=np.bool_),
            budget_usd=budget_usd,
            prior=prior,
        ),
        policy_name=policy,
        exploration=exploration or ExplorationConfig(),
    )


def split_rows(
    matrix: OutcomeMatrix, warmup_split: str | None, score_split: str | None
) -> tuple[IntArray, IntArray]:
    """Row indices of the warm-up and of the scored part. Prompts with no outcome are left out."""
    splits = np.array(matrix.split)
    usable = matrix.known.any(axis=1)
    for name in (warmup_split, score_split):
        if name is not None and not (splits == name).any():
            raise DataError(
                f"no prompt is in split '{name}'; the data have "
                f"{', '.join(sorted(set(matrix.split))) or 'no split column'}"
            )
    if warmup_split is not None and warmup_split == score_split:
        raise DataError(f"split '{warmup_split}' cannot be both learned first and scored")
    in_warmup = np.zeros(splits.size, dtype=np.bool_)
    if warmup_split is not None:
        in_warmup = splits == warmup_split
    in_score = ~in_warmup if score_split is None else splits == score_split
    if not usable.any():
        raise DataError("no prompt has a quality for any model: there is nothing to replay")
    if not (in_score & usable).any():
        raise DataError("nothing is left to score: every prompt is in the warm-up split")
    return np.flatnonzero(in_warmup & usable), np.flatnonzero(in_score & usable)


def extract_features(
    matrix: OutcomeMatrix,
    extractor: FeatureExtractor,
    metadata: Sequence[str],
    on_prompt: Callable[[], None] = lambda: None,
) -> FloatArray:
    """(N, n) features of every prompt, as a single user message."""
    features = np.empty((len(matrix.prompts), len(extractor.names)))
    for i, (prompt, category) in enumerate(zip(matrix.prompts, matrix.category, strict=True)):
        labels = {"category": category} if "category" in metadata else {}
        features[i] = extractor.extract(
            RoutingRequest(messages=({"role": "user", "content": prompt},), metadata=labels)
        )
        on_prompt()
    return features


def named_policy(name: str, models: Sequence[str]) -> Policy[Any]:
    """A policy by its command-line name; ``fixed:MODEL`` names its model."""
    kind, _, model = name.partition(":")
    if model and kind != "fixed":
        raise DataError(f"policy '{name}': only fixed takes a model; write {kind} alone")
    if model and model not in models:
        raise DataError(f"policy '{name}': no model '{model}'; the data have {', '.join(models)}")
    index = list(models).index(model) if model else -1
    return build_policy(kind, PolicyOptions(fixed_arm=index))


def run_seed(study: Study, seed: int) -> SeedResult:
    """One replay: warm-up rows shuffled, then scored rows shuffled, learning all the way."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(study.warmup), rng.permutation(study.score)])
    if study.policy_name == CASCADE:
        cascaded = run_cascade(study.matrix, order, study.problem.budget_usd, rng)
        return _scored(study, seed, order, cascaded.arm, cascaded.reward, cascaded.cost_usd)
    trace, _ = replay(
        study.matrix,
        study.features,
        order,
        study.problem,
        named_policy(study.policy_name, study.problem.arms),
        study.exploration,
        rng,
    )
    return _scored(study, seed, trace.row, trace.arm, trace.reward, trace.cost_usd)


def _scored(
    study: Study, seed: int, row: IntArray, arm: IntArray, reward: FloatArray, cost_usd: FloatArray
) -> SeedResult:
    scored = slice(study.warmup.size, None)
    counts = np.bincount(arm[scored], minlength=len(study.problem.arms))
    return SeedResult(
        seed=seed,
        reward=float(reward[scored].mean()),
        cost_usd=mean_of_known(cost_usd[scored]),
        shares=counts / counts.sum(),
        row=row[scored],
        arm=arm[scored],
    )


def run_study(
    study: Study, seeds: Sequence[int], jobs: int, on_seed: Callable[[], None] = lambda: None
) -> Summary:
    """All seeds, over ``jobs`` processes, and their summary. on_seed is called after each."""
    results = spread(run_seed, study, seeds, jobs, on_seed)
    return summarise(study, results)


def summarise(study: Study, results: Sequence[SeedResult]) -> Summary:
    """The summary beside the yardsticks, all on the scored rows."""
    scored = study.matrix.rows(study.score)
    budget_usd = study.problem.budget_usd
    spend_usd = float(np.mean([result.cost_usd for result in results]))
    return Summary(
        policy=study.policy_name,
        budget_usd=budget_usd,
        requests=int(study.score.size),
        seeds=tuple(results),
        models=study.problem.arms,
        baselines={
            "best_single": best_single(scored, budget_usd),
            "static_mix": static_mix(scored, spend_usd),
            "random": uniform(scored),
            "oracle": oracle(scored, budget_usd),
        },
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
