"""Replays in phases: outcomes and models on offer change, the learner is not told.

The matrix is stacked: rows 0..N−1 are the prompts as recorded, rows N..2N−1 the same prompts as
they turn out while the world is altered. A phase is a shuffled pass over some of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bandit_router.types import BoolArray, FloatArray, IntArray
from simulations.baselines import fixed, mix_of
from simulations.matrix import OutcomeMatrix
from simulations.replay import replay
from simulations.simulate import Study, named_policy
from simulations.workers import spread

# Shares over time are means over so many requests.
WINDOW = 50


@dataclass(frozen=True, slots=True)
class Phase:
    """One scored stretch. part: which of the equal parts of the scored prompts it passes over.

    altered: whether outcomes are the altered ones. offered: (K,) models on offer.
    """

    name: str
    part: int
    altered: bool
    offered: BoolArray


@dataclass(frozen=True, slots=True)
class PhasedStudy:
    """A study whose matrix is stacked, its phases, and the arm that they are about.

    trained: (K,) models on offer while the warm-up rows are learned from, unscored.
    parts: into how many equal parts each seed's shuffle cuts the scored rows.
    """

    name: str
    study: Study
    altered_from: int
    trained: BoolArray
    parts: int
    phases: tuple[Phase, ...]
    arm: int


@dataclass(frozen=True, slots=True)
class PhaseTrace:
    """What one seed did in one phase; all (n,)."""

    arm: IntArray
    reward: FloatArray
    cost_usd: FloatArray


def stacked(study: Study, altered: OutcomeMatrix) -> Study:
    """The study with the altered outcomes of the same prompts below the recorded ones."""
    above, below = study.matrix, altered
    both: dict[str, Any] = {
        name: getattr(above, name) + getattr(below, name)
        for name in ("prompt_ids", "prompts", "category", "split")
    }
    both |= {
        name: np.concatenate([getattr(above, name), getattr(below, name)])
        for name in ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens")
    }
    return replace(
        study,
        matrix=replace(above, **both),
        features=np.concatenate([study.features, study.features]),
    )


def there_and_back(
    name: str, study: Study, altered: OutcomeMatrix, arm: int, second_phase: str
) -> PhasedStudy:
    """Every model on offer throughout; outcomes are altered in the second phase of three, which
    goes over prompts of its own, and as before in the third, over the first one's prompts."""
    everyone = np.ones(len(study.problem.arms), dtype=np.bool_)
    return PhasedStudy(
        name=name,
        study=stacked(study, altered),
        altered_from=len(study.matrix.prompts),
        trained=everyone,
        parts=3,
        phases=(
            Phase("normal", 0, False, everyone),
            Phase(second_phase, 1, True, everyone),
            Phase("restored", 0, False, everyone),
        ),
        arm=arm,
    )


def with_budget(phased: PhasedStudy, budget_usd: float | None) -> PhasedStudy:
    """The same scenario under another budget."""
    problem = replace(phased.study.problem, budget_usd=budget_usd)
    return replace(phased, study=replace(phased.study, problem=problem))


def run_phased_seed(phased: PhasedStudy, seed: int) -> tuple[PhaseTrace, ...]:
    """One replay: warm-up rows shuffled, then each phase's rows shuffled, learning throughout."""
    study, rng = phased.study, np.random.default_rng(seed)
    stretches, offers = [rng.permutation(study.warmup)], [phased.trained]
    parts = np.array_split(rng.permutation(study.score), phased.parts)
    for phase in phased.phases:
        rows = rng.permutation(parts[phase.part])
        stretches.append(rows + phased.altered_from if phase.altered else rows)
        offers.append(phase.offered)
    known = study.matrix.known
    # A prompt of which no model on offer has an outcome cannot be asked.
    stretches = [
        rows[(known[rows] & offered).any(axis=1)]
        for rows, offered in zip(stretches, offers, strict=True)
    ]
    trace, _ = replay(
        study.matrix,
        study.features,
        np.concatenate(stretches),
        study.problem,
        named_policy(study.policy_name, study.problem.arms),
        study.exploration,
        rng,
        available=np.concatenate(
            [
                np.broadcast_to(offered, (rows.size, offered.size))
                for rows, offered in zip(stretches, offers, strict=True)
            ]
        ),
    )
    bounds = np.cumsum([rows.size for rows in stretches])
    return tuple(
        PhaseTrace(trace.arm[a:b], trace.reward[a:b], trace.cost_usd[a:b])
        for a, b in pairwise(bounds)
    )


def run_phased(
    phased: PhasedStudy,
    seeds: Sequence[int],
    jobs: int,
    on_seed: Callable[[], None] = lambda: None,
) -> list[tuple[PhaseTrace, ...]]:
    """Every seed's phases, over ``jobs`` processes."""
    return spread(run_phased_seed, phased, seeds, jobs, on_seed)


def phase_reports(
    phased: PhasedStudy, seeds: Sequence[tuple[PhaseTrace, ...]]
) -> list[dict[str, Any]]:
    """Per phase: reward, spend, and how often the scenario's arm was chosen.

    static_mix: the best mix, at the same spend, of the models on offer as they are in the phase.
    static_mix_without: that of all but the scenario's arm.
    """
    budget_usd = phased.study.problem.budget_usd
    reports = []
    for i, phase in enumerate(phased.phases):
        traces = [seed[i] for seed in seeds]
        rewards = np.array([trace.reward.mean() for trace in traces])
        costs = np.array([trace.cost_usd.mean() for trace in traces])
        spend_usd = float(costs.mean())
        rows = phased.study.score + (phased.altered_from if phase.altered else 0)
        models = fixed(phased.study.matrix.rows(rows))
        offered = [k for k in range(len(models)) if phase.offered[k]]
        others = tuple(models[k] for k in offered if k != phased.arm)
        report: dict[str, Any] = {
            "phase": phase.name,
            "requests": min(trace.arm.size for trace in traces),
            "reward": float(rewards.mean()),
            "reward_ci95": half_width(rewards),
            "cost_usd": spend_usd,
            "static_mix": mix_of(tuple(models[k] for k in offered), spend_usd).reward,
            "static_mix_without": mix_of(others, spend_usd).reward,
            "share": float(np.mean([(trace.arm == phased.arm).mean() for trace in traces])),
            "share_after_200": mean_share(traces, phased.arm, 200),
        }
        if budget_usd:
            ratios = costs / budget_usd
            report["spend_ratio"] = float(ratios.mean())
            report["spend_ratio_worst"] = float(ratios[np.abs(ratios - 1.0).argmax()])
        reports.append(report)
    return reports


def half_width(values: FloatArray) -> float | None:
    """Half of Student's t interval (95 %) for the mean; None for a single value."""
    if values.size < 2:
        return None
    quantile = float(stdtrit(values.size - 1, 0.975))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(values.size))


def mean_share(traces: Sequence[PhaseTrace], arm: int, start: int) -> float | None:
    """Share of the arm from request ``start`` on; None where the phase is shorter."""
    late = [trace.arm[start:] == arm for trace in traces if trace.arm.size > start]
    return float(np.mean([chosen.mean() for chosen in late])) if late else None


def steps_until(trace: PhaseTrace, arm: int, share: float) -> int | None:
    """Requests until the arm's share of the last ``WINDOW`` ones reaches ``share``, or None.

    Never below the window's length: a newcomer's first looks are no adoption.
    """
    chosen = np.cumsum(trace.arm == arm)
    step = np.arange(1, chosen.size + 1)
    before = np.concatenate([np.zeros(WINDOW), chosen])[: chosen.size]
    reached = (chosen - before >= share * WINDOW) & (step >= WINDOW)
    return int(step[reached.argmax()]) if reached.any() else None


def median_steps(steps: Sequence[int | None]) -> float | None:
    """The median over seeds, None where half of them never got there."""
    known = np.array([np.inf if each is None else float(each) for each in steps])
    middle = float(np.median(known))
    return middle if np.isfinite(middle) else None
