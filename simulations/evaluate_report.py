"""The report of an evaluation: what the log says of other policies, as the content of a page."""

from __future__ import annotations

import numpy as np
import polars as pl

from simulations.baselines import Baseline
from simulations.evaluation import Evaluation, TargetResult
from simulations.report.content import Curve, Finding, Level, Point, ReportContent, Role
from simulations.report.words import bargain, hardest
from simulations.simulate_report import mixes, static_hull
from simulations.targets import LOGGED

# Below this share of decisions with feedback, what is not told may matter more than what is.
LITTLE_FEEDBACK = 0.2
UNEVEN_FEEDBACK = 2.0


def evaluation_content(evaluation: Evaluation, asked: tuple[str, ...]) -> ReportContent:
    """What a person should see of an evaluation. asked: the targets that the user named; the
    single models are drawn besides, for the frontier."""
    points = [_point(target, asked) for target in evaluation.targets]
    # What was asked for comes first, the log next, other single models last.
    order = {Role.TARGET: 0, Role.LOGGED: 1, Role.MODEL: 2}
    points.sort(key=lambda point: order[point.role])
    shown = {LOGGED, *asked}
    rate = _feedback_rate(evaluation)
    facts = {
        "decisions": f"{evaluation.decisions:,}",
        "with feedback": f"{rate:.0%}",
        "models": str(len(evaluation.arms)),
        "targets": str(len(asked)),
    }
    if evaluation.log.dated:
        first, last = (text[:10] for text in evaluation.log.dated)
        facts["logged"] = first if first == last else f"{first} to {last}"
    left_out = evaluation.dropped.sentences() if evaluation.dropped else []
    return ReportContent(
        title="What other policies would have done",
        subtitle="Estimated from logged traffic: each decision has one outcome, and the "
        "probability that it was drawn with. Where the log cannot carry an estimate there is "
        "none, and it says why.",
        facts=facts,
        findings=_findings(evaluation, points, asked, rate),
        points=points,
        reference=LOGGED,
        curves=_curves(points),
        shares=_only(evaluation.shares, shown),
        over_time=_only(evaluation.over_time, shown),
        over_time_name="estimated quality",
        over_time_words="The estimate as the log grows, with 95 % intervals. One that still moves "
        "at the end wants a longer log.",
        segments=_only(evaluation.segments, shown),
        segments_words=f"Difference in quality to what was logged, by {evaluation.segment}, with "
        "95 % intervals.",
        hard=_only(evaluation.hard, shown),
        hard_words="Requests sorted by the quality that is predicted for them, over all models. A "
        "policy that quietly gives hard requests to weak models falls off at the right.",
        left_out=left_out,
        method=(
            "Estimates are doubly robust (bandit_router.ope, estimator dr): a linear reward model "
            "that has not seen the decision it predicts, corrected by propensity-weighted misses. "
            "Intervals are of the bootstrap, and differences come from shared resamples.",
            "Where feedback is missing, it is taken to be missing at random given the request's "
            "features and the model.",
            *evaluation.notes,
        ),
    )


def _point(target: TargetResult, asked: tuple[str, ...]) -> Point:
    role = Role.TARGET if target.name in asked else Role.MODEL
    if target.name == LOGGED:
        role = Role.LOGGED
    quality, cost = target.values.get("reward"), target.values.get("cost_usd")
    seconds = target.values.get("latency_s")
    refused = target.refused.message if target.refused else None
    if refused is None and quality is None:
        refused = target.refusals["reward"].message
    return Point(
        name=target.name,
        role=role,
        quality=quality.value if quality else None,
        cost_usd=cost.value if cost else None,
        quality_interval=(quality.low, quality.high) if quality else None,
        cost_interval=(cost.low, cost.high) if cost else None,
        latency_s=seconds.value if seconds else None,
        effective_sample_size=None if refused else target.diagnostics.effective_sample_size,
        estimator="as logged" if target.name == LOGGED else "doubly robust",
        refused=refused,
    )


def _curves(points: list[Point]) -> tuple[Curve, ...]:
    """The static hull of the single models whose worth could be estimated."""
    models = [
        Baseline(point.quality, point.cost_usd)
        for point in points
        if point.name.startswith("fixed:")
        and point.quality is not None
        and point.cost_usd is not None
    ]
    if len(models) < 2:
        return ()
    return (Curve("best mix, estimated", mixes(static_hull(models))),)


def _findings(
    evaluation: Evaluation, points: list[Point], asked: tuple[str, ...], rate: float
) -> list[Finding]:
    found: list[Finding] = []
    logged = next(point for point in points if point.role is Role.LOGGED)
    hard = {row["policy"]: row for row in evaluation.hard_gains.to_dicts()}
    for point in points:
        if point.role is not Role.TARGET:
            continue
        if point.refused:
            found.append(Finding(Level.WARNING, f"{point.name}: no estimate. {point.refused}"))
            continue
        target = evaluation.target(point.name)
        told = bargain(point, logged, target.gains.get("reward"))
        if told is not None:
            found.append(told)
        row = hard.get(point.name)
        if row is not None:
            verdict = hardest(
                point.name, LOGGED, row["difference"], row["low"], row["high"], row["decisions"]
            )
            if verdict.level is not Level.GOOD and row["more_share"] > 0.01:
                moved = f" It gives {row['more_share']:.0%} more of them to {row['more_to']}."
                verdict = Finding(verdict.level, verdict.text + moved)
            found.append(verdict)
    if rate < LITTLE_FEEDBACK:
        found.append(
            Finding(
                Level.WARNING,
                f"Only {rate:.0%} of the decisions have feedback. If those who give it are not "
                "like the others, these estimates are about them.",
            )
        )
    rates = {arm: r for arm, r in evaluation.feedback_rate.items() if r > 0.0}
    if len(rates) > 1 and max(rates.values()) > UNEVEN_FEEDBACK * min(rates.values()):
        most, least = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
        found.append(
            Finding(
                Level.WARNING,
                f"Feedback comes on {rates[most]:.0%} of what {most} answers and on "
                f"{rates[least]:.0%} of {least}'s: it may depend on the answer.",
            )
        )
    never = [arm for arm, least in evaluation.least_propensity.items() if least <= 0.0]
    if never:
        found.append(
            Finding(
                Level.NOTE,
                f"The log could not always have chosen {', '.join(never)}, though eligible: "
                "policies that would use them there are refused.",
            )
        )
    if evaluation.log.answered_elsewhere:
        share = evaluation.log.answered_elsewhere / evaluation.decisions
        found.append(
            Finding(
                Level.NOTE,
                f"{share:.1%} of the decisions were answered by a fallback. Their outcome is "
                "counted for the model that was chosen: so it went when that one was called.",
            )
        )
    if evaluation.dropped and evaluation.dropped.faults:
        count = sum(evaluation.dropped.faults.values())
        found.append(
            Finding(Level.WARNING, f"{count:,} faulty rows were left out; the reasons are below.")
        )
    return found


def _feedback_rate(evaluation: Evaluation) -> float:
    return float(np.isfinite(evaluation.log.rounds.reward).mean())


def _only(frame: pl.DataFrame, names: set[str]) -> pl.DataFrame:
    """The rows of some policies."""
    return frame.filter(pl.col("policy").is_in(names)) if frame.height else frame
