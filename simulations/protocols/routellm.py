"""RouteLLM's measures on its pairs of models, learned online from bandit feedback in one pass.

A call of the strong model costs one unit and one of the weak nothing, whatever it took in
dollars; each pass holds another share of strong calls by the pacer, learns from the chosen
model's correctness alone, and is scored on its second half while it goes on learning.
Performance gap recovered: PGR = (r − r_weak) / (r_strong − r_weak). APGR is the area under PGR
against the share of strong calls, 0.5 for a random mix; CPT(x) is the least share of strong
calls at which PGR reaches x. Source: Ong et al. 2024, arXiv 2406.18665, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandit_router.errors import DataError
from bandit_router.types import FloatArray
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.simulate import Study, make_study, named_policy
from simulations.workers import spread

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Dollars that stand for one strong call.
CALL_USD = 1e-3
# Prompts that RouteLLM's authors found in training data and left out.
CONTAMINATED = "contaminated"


@dataclass(frozen=True, slots=True)
class Point:
    """One pass's second half: strong calls and mean quality, of it and of the two models."""

    strong_share: float
    quality: float
    weak: float
    strong: float

    @property
    def recovered(self) -> float:
        """PGR, against the very prompts that were scored."""
        return (self.quality - self.weak) / (self.strong - self.weak)


def pair_study(
    matrix: OutcomeMatrix,
    *,
    policy: str = "thompson",
    text: str = "hashed",
    metadata: Sequence[str] = (),
    on_prompt: Callable[[], None] = lambda: None,
) -> Study:
    """The better model against the other, priced by the call. Raises DataError for other than
    two models, or where the dearer of them is not the better."""
    if len(matrix.models) != 2:
        raise DataError(
            f"RouteLLM's measures are about two models; the data have {len(matrix.models)}: "
            f"{', '.join(matrix.models)}. Choose a pair with --models strong,weak"
        )
    clean = np.flatnonzero(np.array([split != CONTAMINATED for split in matrix.split]))
    both = clean[matrix.known[clean].all(axis=1)]
    if both.size < 4:
        raise DataError(f"{both.size} prompts have outcomes of both models; at least 4 are needed")
    kept = matrix.rows(both)
    strong = int(kept.quality.mean(axis=0).argmax())
    if np.ptp(kept.quality.mean(axis=0)) == 0.0:
        raise DataError("both models have the same mean quality: there is no gap to recover")
    calls = np.zeros_like(kept.quality)
    calls[:, strong] = CALL_USD
    return make_study(
        replace(kept, cost_usd=calls),
        policy=policy,
        budget_usd=CALL_USD,
        warmup_split=None,
        score_split=None,
        text=text,
        metadata=metadata,
        on_prompt=on_prompt,
    )


def strong_arm(study: Study) -> int:
    """Index of the model that calls are counted of."""
    return int(study.matrix.cost_usd.max(axis=0).argmax())


def run_pass(study: Study, task: tuple[float, int]) -> Point:
    """One pass at (share, seed) over all prompts, shuffled; its second half is scored."""
    share, seed = task
    rng = np.random.default_rng(seed)
    order = rng.permutation(study.score)
    trace, _ = replay(
        study.matrix,
        study.features,
        order,
        replace(study.problem, budget_usd=share * CALL_USD),
        named_policy(study.policy_name, study.problem.arms),
        study.exploration,
        rng,
    )
    second = slice(order.size // 2, None)
    strong = strong_arm(study)
    means = study.matrix.quality[order[second]].mean(axis=0)
    return Point(
        strong_share=float((trace.arm[second] == strong).mean()),
        quality=float(trace.reward[second].mean()),
        weak=float(means[1 - strong]),
        strong=float(means[strong]),
    )


def curve(points: Sequence[Point]) -> tuple[FloatArray, FloatArray]:
    """Shares of strong calls, rising from 0 to 1, and PGR at each: straight between points."""
    inner = sorted((point.strong_share, point.recovered) for point in points)
    shares = np.array([0.0, *(share for share, _ in inner), 1.0])
    return shares, np.array([0.0, *(recovered for _, recovered in inner), 1.0])


def apgr(points: Sequence[Point]) -> float:
    """Area under the curve of one seed's points; 0.5 for a random mix."""
    shares, recovered = curve(points)
    return float(np.trapezoid(recovered, shares))


def cpt(points: Sequence[Point], recovered: float) -> float:
    """Least share of strong calls at which the curve reaches ``recovered``, in (0, 1]."""
    shares, reached = curve(points)
    for i in range(1, shares.size):
        if reached[i] >= recovered:
            part = (recovered - reached[i - 1]) / (reached[i] - reached[i - 1])
            return float(shares[i - 1] + part * (shares[i] - shares[i - 1]))
    raise AssertionError("the curve ends at one")


def run_routellm(
    study: Study,
    shares: Sequence[float],
    seeds: int,
    jobs: int,
    on_pass: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """APGR and CPT, mean over seeds, and the curve's points, mean over seeds by share."""
    tasks = [(share, seed) for seed in range(seeds) for share in shares]
    points = spread(run_pass, study, tasks, jobs, on_pass)
    by_seed = [points[i * len(shares) : (i + 1) * len(shares)] for i in range(seeds)]
    areas = np.array([apgr(each) for each in by_seed])
    return {
        "policy": study.policy_name,
        "prompts": int(study.score.size),
        "scored": int(study.score.size - study.score.size // 2),
        "seeds": seeds,
        "apgr": float(areas.mean()),
        "apgr_by_seed": areas.tolist(),
        "cpt_50": float(np.mean([cpt(each, 0.5) for each in by_seed])),
        "cpt_80": float(np.mean([cpt(each, 0.8) for each in by_seed])),
        "points": [
            {
                "target_share": share,
                "strong_share": float(np.mean([each[i].strong_share for each in by_seed])),
                "recovered": float(np.mean([each[i].recovered for each in by_seed])),
            }
            for i, share in enumerate(shares)
        ],
    }
