"""Replays of many more requests than there are prompts, under one way of giving feedback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bandit_router.config import FeedbackConfig
from bandit_router.types import FloatArray
from simulations.baselines import fixed, mix_of
from simulations.replay import replay
from simulations.scenarios.feedback import FEEDBACK, WITHOUT_POISON, poisoned
from simulations.scenarios.phased import half_width
from simulations.simulate import Study, named_policy
from simulations.workers import spread

# Where a long replay is cut for the report; the end is one too.
CUTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
POISONED = "poisoned"
POISONED_UNGUARDED = "poisoned_unguarded"


@dataclass(frozen=True, slots=True)
class Repeated:
    """A study's prompts, shuffled anew at every pass, until ``requests`` are routed.

    feedback: a name in ``FEEDBACK`` or ``WITHOUT_POISON``, or ``poisoned``, with trust bounded
    as by default, or ``poisoned_unguarded``, where every source is believed. damned, praised:
    the two arms that a poisoned key lies about, from request ``poisoned_from`` on.
    """

    study: Study
    feedback: str
    requests: int
    damned: int = 0
    praised: int = 0
    poisoned_from: int = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """One cut of one replay. shares: (K,)."""

    stop: int
    reward: float
    cost_usd: float
    shares: FloatArray


def run_repeated_seed(plan: Repeated, seed: int) -> tuple[Stretch, ...]:
    """One replay, cut into stretches. Whatever the feedback, a seed has the same requests."""
    study, rng = plan.study, np.random.default_rng(seed)
    rows = np.concatenate([study.warmup, study.score])
    passes = [rng.permutation(rows) for _ in range(-(-plan.requests // rows.size))]
    order = np.concatenate(passes)[: plan.requests]
    truth = study.matrix.quality[order]
    told = np.random.default_rng([seed, 1])
    if plan.feedback in (POISONED, POISONED_UNGUARDED):
        trust = FeedbackConfig() if plan.feedback == POISONED else None
        signals = poisoned(
            truth,
            told,
            damned=plan.damned,
            praised=plan.praised,
            trust=trust,
            start=plan.poisoned_from,
        )
    else:
        signals = {**FEEDBACK, **WITHOUT_POISON}[plan.feedback](truth, told)
    trace, _ = replay(
        study.matrix,
        study.features,
        order,
        study.problem,
        named_policy(study.policy_name, study.problem.arms),
        study.exploration,
        rng,
        feedback_step=signals.step,
        posting=signals.posting,
    )
    bounds = [0, *(cut for cut in CUTS if cut < plan.requests), plan.requests]
    count = len(study.problem.arms)
    return tuple(
        Stretch(
            stop,
            float(trace.reward[start:stop].mean()),
            float(trace.cost_usd[start:stop].mean()),
            np.bincount(trace.arm[start:stop], minlength=count) / (stop - start),
        )
        for start, stop in pairwise(bounds)
    )


def run_repeated(
    plan: Repeated,
    seeds: Sequence[int],
    jobs: int,
    on_seed: Callable[[], None] = lambda: None,
) -> list[tuple[Stretch, ...]]:
    """Every seed, over ``jobs`` processes."""
    return spread(run_repeated_seed, plan, seeds, jobs, on_seed)


def repeated_report(plan: Repeated, seeds: Sequence[tuple[Stretch, ...]]) -> dict[str, Any]:
    """Per stretch, mean reward and spend over seeds beside the static mix at the same spend."""
    study = plan.study
    rows = np.concatenate([study.warmup, study.score])
    models = fixed(study.matrix.rows(rows))
    stretches = []
    start = 0
    for cut in zip(*seeds, strict=True):
        rewards = np.array([stretch.reward for stretch in cut])
        spend_usd = np.array([stretch.cost_usd for stretch in cut])
        mixes = np.array([mix_of(models, float(spent)).reward for spent in spend_usd])
        shares = np.mean([stretch.shares for stretch in cut], axis=0)
        stretches.append(
            {
                "from": start,
                "to": cut[0].stop,
                "reward": float(rewards.mean()),
                "static_mix": float(mixes.mean()),
                "above_static_mix": float((rewards - mixes).mean()),
                "above_static_mix_ci95": half_width(rewards - mixes),
                "above_static_mix_worst": float((rewards - mixes).min()),
                "spend_ratio": float(spend_usd.mean() / study.problem.budget_usd)
                if study.problem.budget_usd
                else None,
                "shares": dict(zip(study.problem.arms, shares.tolist(), strict=True)),
            }
        )
        start = cut[0].stop
    return {"requests": plan.requests, "stretches": stretches}


def most_moved(
    one: Sequence[tuple[Stretch, ...]], other: Sequence[tuple[Stretch, ...]]
) -> dict[str, float]:
    """How far one key moves any model's share of all requests: mean over seeds of the largest
    difference to the same requests without it, and that of the worst seed."""
    moved = [float(np.abs(_shares(a) - _shares(b)).max()) for a, b in zip(one, other, strict=True)]
    return {"share_moved": float(np.mean(moved)), "share_moved_worst": max(moved)}


def shifted(
    one: Sequence[tuple[Stretch, ...]], other: Sequence[tuple[Stretch, ...]], arm: int
) -> dict[str, float | None]:
    """By how much an arm's share of all requests is larger in ``one``: the mean over seeds, and
    what that is known to."""
    by = np.array([_shares(a)[arm] - _shares(b)[arm] for a, b in zip(one, other, strict=True)])
    return {"shift": float(by.mean()), "shift_ci95": half_width(by)}


def _shares(stretches: tuple[Stretch, ...]) -> FloatArray:
    starts = [0, *(stretch.stop for stretch in stretches[:-1])]
    sizes = np.array([s.stop - start for s, start in zip(stretches, starts, strict=True)])
    return np.asarray(sizes @ np.stack([s.shares for s in stretches]) / sizes.sum())
