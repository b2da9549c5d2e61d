"""Advice in words: what the sums say that an operator should do something about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bandit_router.traffic import ModelSums, SegmentSums, ratio, total

# Judged answers below which a share or a mean is not spoken of.
ENOUGH_REWARDS = 30
ENOUGH_IN_SEGMENT = 20
LOW_SHARE_LIMIT = 0.30
ENOUGH_DECISIONS = 200
ESCALATION_LIMIT = 0.01
FAILURE_LIMIT = 0.10
UNTRIED = timedelta(days=7)
# The difference in quality that feedback should be able to show, and the two normal quantiles
# of a test at 5 % that finds it four times in five.
DIFFERENCE = 0.10
TEST_Z = 1.959964 + 0.841621
WORST_PLACES = 3


@dataclass(frozen=True, slots=True)
class Advice:
    """One piece of advice. kind: a fixed word for it; severity: warning, notice or good.

    headline says what is the matter, detail the numbers, action what to do about it.
    """

    kind: str
    severity: str
    headline: str
    detail: str
    action: str


def advise(
    models: Sequence[ModelSums],
    segments: Sequence[SegmentSums],
    last_chosen: Mapping[str, datetime],
    active: Sequence[str],
    now: datetime,
    span: timedelta,
) -> tuple[Advice, ...]:
    """Everything worth saying of a span of traffic, warnings first.

    models: sums over the span of decisions that a policy made. last_chosen: when each model was
    chosen last, by anyone. active: the models that the policy may choose.
    """
    if not total(models).decisions:
        return (
            Advice(
                "no_traffic",
                "notice",
                "No request has been routed in this span.",
                "There is nothing to judge yet.",
                'Send requests with model "auto", or look at a longer span.',
            ),
        )
    found = [
        *too_greedy(models, segments),
        *too_conservative(models),
        *nothing_escalates(models),
        *failing(models),
        *untried(last_chosen, active, now),
        *sparse_feedback(models, active, span),
    ]
    if not found:
        found.append(
            Advice(
                "all_well",
                "good",
                "Nothing needs your attention.",
                "Quality, escalations, fallbacks, exploration and feedback are as they should be.",
                "Leave it running.",
            )
        )
    return tuple(sorted(found, key=lambda advice: advice.severity != "warning"))


def too_greedy(models: Sequence[ModelSums], segments: Sequence[SegmentSums]) -> tuple[Advice, ...]:
    """The cheap model's answers are bad too often, and where."""
    pair = _ends(models)
    cheap = pair[0] if pair else None
    if cheap is None or cheap.low_share is None or cheap.low_share <= LOW_SHARE_LIMIT:
        return ()
    places = [
        s
        for s in segments
        if s.model == cheap.model
        and s.rewards >= ENOUGH_IN_SEGMENT
        and (s.low_share or 0.0) > LOW_SHARE_LIMIT
    ]
    places.sort(key=lambda s: -(s.low_share or 0.0))
    where = ", ".join(
        f"{s.segment.replace('=', ' ', 1)} ({_percent(s.low_share)} of {s.rewards})"
        for s in places[:WORST_PLACES]
    )
    return (
        Advice(
            "too_greedy",
            "warning",
            f"Too greedy: {_percent(cheap.low_share)} of the answers by {cheap.model} are bad.",
            f"{cheap.low_rewards} of {cheap.rewards} judged answers of the cheapest model are "
            f"below 0.5; up to {_percent(LOW_SHARE_LIMIT)} would pass."
            + (f" Worst with {where}." if where else " No kind of request stands out."),
            "Raise policy.budget_usd_per_request, or set a quality floor, so that more of these "
            "go to a stronger model.",
        ),
    )


def too_conservative(models: Sequence[ModelSums]) -> tuple[Advice, ...]:
    """The dear model's answers are no better, neither where it was used nor as expected of it on
    all requests (alone, the first could be because it gets the hard ones)."""
    pair = _ends(models)
    if pair is None or len({m.model for m in pair}) < 2:
        return ()
    cheap, dear = pair
    assert cheap.quality is not None
    assert dear.quality is not None
    everywhere = (dear.always_quality or 0.0) - (cheap.always_quality or 0.0)
    if dear.quality > cheap.quality or everywhere > 0.0:
        return ()
    return (
        Advice(
            "too_conservative",
            "warning",
            f"Too conservative: {dear.model} is no better than {cheap.model}.",
            f"Mean quality {dear.quality:.3f} at ${dear.cost_per_answer_usd:.2g} an answer, "
            f"against {cheap.quality:.3f} at ${cheap.cost_per_answer_usd:.2g}; over all "
            f"requests the expected difference is {everywhere:+.3f}.",
            f"Lower policy.budget_usd_per_request, or pause {dear.model}.",
        ),
    )


def nothing_escalates(models: Sequence[ModelSums]) -> tuple[Advice, ...]:
    """Nearly every request goes to the cheapest model that could take it."""
    whole = total(models)
    if len([m for m in models if m.eligible]) < 2 or whole.decisions < ENOUGH_DECISIONS:
        return ()
    share = whole.escalations / whole.decisions
    if share >= ESCALATION_LIMIT:
        return ()
    return (
        Advice(
            "nothing_escalates",
            "warning",
            "Almost nothing escalates to a dearer model.",
            f"{whole.escalations} of {whole.decisions} decisions chose anything but the cheapest "
            f"eligible model, fewer than {_percent(ESCALATION_LIMIT)}.",
            "If quality satisfies, the other models may go. If not, raise the budget, or check "
            "that feedback tells good answers from bad ones.",
        ),
    )


def failing(models: Sequence[ModelSums]) -> tuple[Advice, ...]:
    """Models that others often have to step in for."""
    found = []
    for m in models:
        missed = m.fallbacks + m.failures
        share = ratio(missed, m.outcomes)
        if share is None or m.outcomes < ENOUGH_REWARDS or share <= FAILURE_LIMIT:
            continue
        found.append(
            Advice(
                "failing",
                "warning",
                f"{m.model} fails in {_percent(share)} of its requests.",
                f"Of {m.outcomes} requests given to it, another model answered {m.fallbacks} and "
                f"none answered {m.failures}.",
                "Look at its attempts below; pause it while its provider has trouble.",
            )
        )
    return tuple(found)


def untried(
    last_chosen: Mapping[str, datetime], active: Sequence[str], now: datetime
) -> tuple[Advice, ...]:
    """Models about which nothing new was learned for a week."""
    found = []
    for name in active:
        last = last_chosen.get(name)
        if last is not None and now - last <= UNTRIED:
            continue
        since = "never" if last is None else f"not for {(now - last).days} days"
        found.append(
            Advice(
                "untried",
                "notice",
                f"{name} was {since} tried." if last is None else f"{name} was {since} chosen.",
                "What is believed of it may be out of date, and nothing would show a change.",
                "Raise exploration.look_budget_usd_per_day or min_pulls_per_day, or retire it.",
            )
        )
    return tuple(found)


def rewards_needed(quality: float) -> int:
    """Judged answers a model needs, so that a difference of 0.10 to another's shows.

    Two means of n rewards each, with the variance of a rate: n = 2·q(1−q)·(z/δ)², at a test of
    5 % that finds the difference four times in five.
    """
    return math.ceil(2.0 * quality * (1.0 - quality) * (TEST_Z / DIFFERENCE) ** 2)


def sparse_feedback(
    models: Sequence[ModelSums], active: Sequence[str], span: timedelta
) -> tuple[Advice, ...]:
    """Too few judged answers to tell models apart, and how many more are needed."""
    whole = total(models)
    if not whole.answers:
        return ()
    # Near 0 or 1 the variance of the few rewards so far says too little of those to come.
    quality = min(0.9, max(0.1, whole.quality if whole.quality is not None else 0.5))
    needed = rewards_needed(quality)
    have = {m.model: m.rewards for m in models}
    short = {name: needed - have.get(name, 0) for name in active if have.get(name, 0) < needed}
    if len(short) < max(1, len(active) - 1):
        return ()
    share = whole.rewards / whole.answers
    lead = "Feedback is sparse" if share < 0.05 else "Too little feedback to tell models apart"
    wanting = ", ".join(f"{count} more of {name}" for name, count in short.items())
    days = span.total_seconds() / 86_400.0
    missing = sum(short.values())
    pace = (
        f" At the present pace that takes about {_days(missing * days / whole.rewards)}."
        if whole.rewards
        else ""
    )
    return (
        Advice(
            "sparse_feedback",
            "warning" if share < 0.05 else "notice",
            f"{lead}: {whole.rewards} of {whole.answers} answers were judged.",
            f"To see a difference of {DIFFERENCE:.2f} in quality, each model needs about {needed} "
            f"judged answers: {wanting}.{pace}",
            "Post more feedback to /v1/feedback: a thumb, a check that passed, or a judge's score.",
        ),
    )


def _ends(models: Sequence[ModelSums]) -> tuple[ModelSums, ModelSums] | None:
    """The cheapest and the dearest of the models with enough judged answers, by their bills."""
    known = [m for m in models if m.rewards >= ENOUGH_REWARDS and m.cost_per_answer_usd is not None]
    if not known:
        return None
    ordered = sorted(known, key=lambda m: m.cost_per_answer_usd or 0.0)
    return ordered[0], ordered[-1]


def _percent(share: float | None) -> str:
    return f"{100.0 * (share or 0.0):.0f} %"


def _days(days: float) -> str:
    if days < 1.0 / 24.0:
        return f"{max(1.0, days * 1440.0):.0f} minutes"
    if days < 2.0:
        return f"{days * 24.0:.0f} hours"
    return f"{days:.0f} days"
