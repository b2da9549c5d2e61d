"""The report of a simulation: a study and its summary as the content of a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.special import stdtrit

from bandit_router.types import FloatArray, IntArray
from simulations.baselines import Baseline, fixed, oracle
from simulations.matrix import OutcomeMatrix
from simulations.report.content import Curve, Finding, Level, Point, ReportContent, Role
from simulations.report.page import dollars
from simulations.report.words import bargain, hardest
from simulations.simulate import Study, Summary

SLICES = 5
BINS = 40
# Points along each piece of the static hull.
STEPS = 24
# Segments with fewer prompts say nothing by themselves.
LEAST_SEGMENT = 20
MOST_SEGMENTS = 14


def simulation_content(study: Study, summary: Summary) -> ReportContent:
    """What a person should see of a simulation."""
    matrix = study.matrix.rows(study.score)
    place = np.full(len(study.matrix.prompts), -1, dtype=np.int64)
    place[study.score] = np.arange(study.score.size)
    # Rows from here on count within the scored part.
    seeds = [(place[seed.row], seed.arm) for seed in summary.seeds]
    models = dict(zip(matrix.models, fixed(matrix), strict=True))
    reference = max(models, key=lambda name: models[name].reward)
    points = [_policy_point(study, summary)] + [
        Point(
            name=f"fixed:{name}",
            role=Role.MODEL,
            quality=model.reward,
            cost_usd=_known(model.cost_usd),
            latency_s=_known_mean(matrix.latency_s[:, k]),
        )
        for k, (name, model) in enumerate(models.items())
    ]
    gain = _mean_gain(matrix, seeds, matrix.models.index(reference))
    ease = np.nanmean(np.where(matrix.known, matrix.quality, np.nan), axis=1)
    slices = _slices(ease)
    findings = list(_findings(summary, points, f"fixed:{reference}", gain, slices))
    budget = "no budget" if summary.budget_usd is None else dollars(summary.budget_usd)
    return ReportContent(
        title=f"{summary.policy} on {summary.requests:,} recorded requests",
        subtitle="Every model's outcome on every prompt is known, so that the policy was replayed "
        "exactly: each request is routed before its outcome is seen, and only the chosen model's "
        f"outcome is learned from. {len(summary.seeds)} shuffles.",
        facts={
            "requests": f"{summary.requests:,}",
            "shuffles": str(len(summary.seeds)),
            "models": str(len(matrix.models)),
            "budget a request": budget,
            "spent a request": dollars(_known(summary.cost_usd)),
        },
        findings=findings,
        points=points,
        reference=f"fixed:{reference}",
        curves=reference_curves(matrix),
        shares=_shares(summary, seeds, matrix),
        over_time=_regret(study, summary, seeds, matrix),
        over_time_name="cumulative regret",
        over_time_words="Quality given up so far against the oracle, who knows every outcome and "
        "keeps to the same budget. A line that bends down is a policy that learns.",
        segments=_segments(matrix, gain, summary.policy),
        segments_words=f"Mean difference in quality to fixed:{reference}, with 95 % intervals "
        "over prompts.",
        hard=_hard(matrix, seeds, slices, summary.policy),
        hard_words="Requests sorted by the mean quality of all models on them. A policy that "
        "quietly gives hard requests to weak models falls off at the right.",
        method=(
            "Intervals of the policy are Student's t over shuffles; those of segments and slices "
            "are over prompts.",
            "Static mix: the best random mix of single models at each spend. Oracle: the best "
            "choice by someone who knows every outcome.",
        ),
    )


def reference_curves(matrix: OutcomeMatrix) -> tuple[Curve, ...]:
    """The static hull and the oracle; none where costs are not known."""
    models = fixed(matrix)
    if not all(np.isfinite(model.cost_usd) for model in models):
        return ()
    hull = static_hull(models)
    dearest = max(model.cost_usd for model in models)
    cheapest = min(model.cost_usd for model in models)
    budgets = np.geomspace(max(cheapest, dearest * 1e-5), dearest, 24)
    best = [oracle(matrix, float(budget)) for budget in budgets]
    steps = sorted({(b.cost_usd, b.reward) for b in best if np.isfinite(b.cost_usd)})
    return (
        Curve("best static mix", mixes(hull)),
        Curve("oracle", tuple(steps)),
    )


def static_hull(models: Sequence[Baseline]) -> list[Baseline]:
    """The models on the upper concave hull, from the cheapest to the best."""
    hull: list[Baseline] = []
    for model in sorted(models, key=lambda m: (m.cost_usd, -m.reward)):
        if hull and model.reward <= hull[-1].reward:
            continue
        while len(hull) > 1 and _slope(hull[-2], model) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(model)
    return hull


def mixes(hull: Sequence[Baseline]) -> tuple[tuple[float, float], ...]:
    """(dollars, quality) along the hull, closely enough to be drawn on a logarithmic axis."""
    points = [(hull[0].cost_usd, hull[0].reward)]
    for low, high in pairwise(hull):
        first = max(low.cost_usd, high.cost_usd * 1e-6)
        for cost in np.geomspace(first, high.cost_usd, STEPS)[1:]:
            share = (cost - low.cost_usd) / (high.cost_usd - low.cost_usd)
            points.append((float(cost), low.reward + share * (high.reward - low.reward)))
    return tuple(points)


def _slope(low: Baseline, high: Baseline) -> float:
    return (high.reward - low.reward) / max(high.cost_usd - low.cost_usd, 1e-300)


def _policy_point(study: Study, summary: Summary) -> Point:
    costs = [seed.cost_usd for seed in summary.seeds]
    matrix = study.matrix
    seconds = [matrix.latency_s[seed.row, seed.arm] for seed in summary.seeds]
    return Point(
        name=summary.policy,
        role=Role.TARGET,
        quality=summary.reward,
        cost_usd=_known(summary.cost_usd),
        quality_interval=summary.reward_ci95,
        cost_interval=_interval(costs) if len(costs) > 1 and np.isfinite(costs).all() else None,
        latency_s=_known_mean(np.concatenate(seconds)),
        estimator="replayed exactly",
    )


def _findings(
    summary: Summary, points: list[Point], reference: str, gain: FloatArray, slices: IntArray
) -> list[Finding]:
    policy = points[0]
    best = next(point for point in points if point.name == reference)
    found = [bargain(policy, best)]
    mix = summary.baselines["static_mix"].reward
    interval = summary.reward_ci95 or (summary.reward, summary.reward)
    level = Level.GOOD if interval[0] > mix else Level.NOTE if interval[1] >= mix else Level.WARNING
    found.append(
        Finding(
            level,
            f"At the same spend the best static mix of models earns {mix:.4f}, and "
            f"{summary.policy} {summary.reward:.4f}. The oracle within budget earns "
            f"{summary.baselines['oracle'].reward:.4f}.",
        )
    )
    if summary.utilisation is not None:
        mean, worst = summary.utilisation
        off = abs(worst - 1.0) > 0.1 and worst > 1.0
        found.append(
            Finding(
                Level.WARNING if off else Level.NOTE,
                f"{mean:.1%} of the budget was used on average, {worst:.1%} in the shuffle "
                "farthest from it.",
            )
        )
    last = gain[slices == SLICES - 1]
    mean, error = float(last.mean()), float(last.std(ddof=1) / np.sqrt(last.size))
    found.append(
        hardest(
            summary.policy, reference, mean, mean - 1.96 * error, mean + 1.96 * error, last.size
        )
    )
    return [finding for finding in found if finding is not None]


def _mean_gain(
    matrix: OutcomeMatrix, seeds: Sequence[tuple[IntArray, IntArray]], reference: int
) -> FloatArray:
    """(n,) per prompt, the policy's mean quality over shuffles minus the reference's."""
    total = np.zeros(len(matrix.prompts))
    for row, arm in seeds:
        np.add.at(total, row, matrix.quality[row, arm])
    return np.asarray(total / len(seeds) - np.nan_to_num(matrix.quality[:, reference]))


def _slices(ease: FloatArray) -> IntArray:
    """(n,) which fifth: 0 the easiest, 4 the hardest. Ties keep their order."""
    rank = np.empty(ease.size, dtype=np.int64)
    rank[np.argsort(-ease, kind="stable")] = np.arange(ease.size)
    return rank * SLICES // ease.size


def _hard(
    matrix: OutcomeMatrix,
    seeds: Sequence[tuple[IntArray, IntArray]],
    slices: IntArray,
    policy: str,
) -> pl.DataFrame:
    rows = []
    for number in range(SLICES):
        inside = slices == number
        label = _slice_name(number)
        earned = np.concatenate([matrix.quality[row, arm][inside[row]] for row, arm in seeds])
        rows.append(_slice_row(label, policy, earned, int(inside.sum())))
        for k, name in enumerate(matrix.models):
            own = matrix.quality[inside, k]
            own = own[np.isfinite(own)]
            if own.size:
                rows.append(_slice_row(label, f"fixed:{name}", own, int(inside.sum())))
    return pl.DataFrame(rows)


def _slice_row(label: str, policy: str, values: FloatArray, decisions: int) -> dict[str, object]:
    mean = float(values.mean())
    error = float(values.std() / np.sqrt(max(decisions, 1)))
    return {
        "slice": label,
        "policy": policy,
        "quality": mean,
        "low": mean - 1.96 * error,
        "high": mean + 1.96 * error,
        "decisions": decisions,
    }


def _slice_name(number: int) -> str:
    names = {0: "easiest", SLICES - 1: "hardest"}
    return names.get(number, str(number + 1))


def _segments(matrix: OutcomeMatrix, gain: FloatArray, policy: str) -> pl.DataFrame:
    if len(set(matrix.category)) < 2:
        return pl.DataFrame()
    table = (
        pl.DataFrame({"segment": matrix.category, "gain": gain})
        .group_by("segment")
        .agg(
            pl.col("gain").mean().alias("difference"),
            (pl.col("gain").std() / pl.len().sqrt()).alias("error"),
            pl.len().alias("decisions"),
        )
        .filter(pl.col("decisions") >= LEAST_SEGMENT)
        .sort("decisions", descending=True)
        .head(MOST_SEGMENTS)
        .sort("difference", "segment")
    )
    return table.select(
        "segment",
        pl.lit(policy).alias("policy"),
        "difference",
        (pl.col("difference") - 1.96 * pl.col("error")).alias("low"),
        (pl.col("difference") + 1.96 * pl.col("error")).alias("high"),
        "decisions",
    )


def _shares(
    summary: Summary, seeds: Sequence[tuple[IntArray, IntArray]], matrix: OutcomeMatrix
) -> pl.DataFrame:
    count = seeds[0][0].size
    edges = np.unique(np.linspace(0, count, min(BINS, count) + 1).astype(np.int64))
    rows = []
    for begin, end in pairwise(edges):
        arms = np.concatenate([arm[begin:end] for _, arm in seeds])
        shares = np.bincount(arms, minlength=len(matrix.models)) / arms.size
        rows += [
            {"policy": summary.policy, "request": int(end), "model": name, "share": float(share)}
            for name, share in zip(matrix.models, shares, strict=True)
        ]
    return pl.DataFrame(rows)


def _regret(
    study: Study,
    summary: Summary,
    seeds: Sequence[tuple[IntArray, IntArray]],
    matrix: OutcomeMatrix,
) -> pl.DataFrame:
    """Cumulative regret against the oracle's mean, averaged over shuffles, with their spread."""
    best = summary.baselines["oracle"].reward
    count = seeds[0][0].size
    at = np.unique(np.linspace(1, count, min(4 * BINS, count)).astype(np.int64)) - 1
    models = fixed(matrix)
    single = summary.baselines["best_single"]
    named = {model: k for k, model in enumerate(models)}
    lines = {
        summary.policy: [np.cumsum(best - matrix.quality[row, arm])[at] for row, arm in seeds],
        "best single model within budget": [
            np.cumsum(best - np.nan_to_num(matrix.quality[row, named[single]])[:])[at]
            for row, _ in seeds
        ],
        "random": [
            np.cumsum(
                best - np.nanmean(np.where(matrix.known, matrix.quality, np.nan)[row], axis=1)
            )[at]
            for row, _ in seeds
        ],
    }
    frames = []
    for name, curves in lines.items():
        stacked = np.stack(curves)
        half = 1.96 * stacked.std(axis=0) / np.sqrt(len(curves))
        mean = stacked.mean(axis=0)
        frames.append(
            pl.DataFrame(
                {
                    "policy": [name] * at.size,
                    "request": at + 1,
                    "value": mean,
                    "low": mean - half,
                    "high": mean + half,
                }
            )
        )
    return pl.concat(frames)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, 0.975)) * spread
    return mean - half, mean + half


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _known_mean(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
