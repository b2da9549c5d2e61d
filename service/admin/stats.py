"""GET /admin/stats/…: traffic in sums, for the dashboard's panels and anyone's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.advice import Advice, advise
from bandit_router.advice_on_changes import on_changes, on_trial
from bandit_router.leanings import leanings
from bandit_router.store.cascade_reads import cascade_sums
from bandit_router.store.rollup_reads import Histograms, ModeSums, Span
from bandit_router.store.rollup_sql import BINS_PER_OCTAVE, LEAST_SECONDS, REWARD_BINS
from bandit_router.traffic import (
    ModelSums,
    best_model,
    merged,
    quantile,
    ratio,
    savings,
    seconds_at,
    total,
)
from service.admin.entrance import operator_doors, tenant_doors, tenant_of
from service.admin.words import words_of
from service.answers import json_response
from service.runtime import Runtime

UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a caller named outright says nothing of the policy.
OVERRIDE = "override"
MOST_SEGMENTS = 40


class Window(StrEnum):
    """How far back to look."""

    QUARTER = "15m"
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    YEAR = "365d"


@dataclass(frozen=True, slots=True)
class _Grain:
    """length of a window, width of the buckets that it is read from, step that it is shown by."""

    length: timedelta
    width_s: int
    step: timedelta


GRAINS = {
    Window.QUARTER: _Grain(timedelta(minutes=15), 5, timedelta(seconds=15)),
    Window.HOUR: _Grain(timedelta(hours=1), 60, timedelta(minutes=1)),
    Window.SIX_HOURS: _Grain(timedelta(hours=6), 60, timedelta(minutes=5)),
    Window.DAY: _Grain(timedelta(days=1), 3600, timedelta(hours=1)),
    Window.WEEK: _Grain(timedelta(days=7), 3600, timedelta(hours=6)),
    Window.MONTH: _Grain(timedelta(days=30), 86_400, timedelta(days=1)),
    Window.YEAR: _Grain(timedelta(days=365), 86_400, timedelta(days=7)),
}
Asked = Annotated[Window, Query(description="How far back.")]
Tenant = Annotated[str | None, Query(max_length=256)]


def stats_routes(runtime: Runtime) -> APIRouter:
    """The doors to sums."""
    routes = APIRouter()
    tenant_routes = tenant_doors(runtime, "stats")
    operator_routes = operator_doors(runtime, "stats")

    def span_of(request: Request, window: Window, tenant: str | None) -> Span:
        return _span(runtime.clock.now(), GRAINS[window], tenant_of(request) or tenant)

    @tenant_routes.get("/stats/summary")
    async def summary(
        request: Request, window: Asked = Window.DAY, tenant: Tenant = None
    ) -> Response:
        """Totals beside those of the span before, per model too, savings and frontier."""
        span = span_of(request, window, tenant)
        length = GRAINS[window].length
        before = Span(span.width_s, span.since - length, span.since, span.tenant)
        now, then, histograms = await asyncio.gather(
            runtime.rollup_reads.totals(span),
            runtime.rollup_reads.totals(before),
            runtime.rollup_reads.histograms(span),
        )
        return json_response(
            {
                "window": window.value,
                "since": span.since,
                "until": runtime.clock.now(),
                "total": _figures(total([part.sums for part in now])),
                "before": _figures(total([part.sums for part in then])),
                "modes": _modes(now),
                "by_mode": _by_mode(now),
                "models": _models(runtime, now, histograms),
                "savings": savings(_by_policy(now)),
                "frontier": _frontier(_by_policy(now)),
                "budget_usd_per_request": runtime.problem.budget_usd,
            }
        )

    @tenant_routes.get("/stats/trend")
    async def trend(
        request: Request, window: Asked = Window.DAY, tenant: Tenant = None
    ) -> Response:
        """Per step of time and model: requests, answers, quality, dollars, seconds."""
        span, step = span_of(request, window, tenant), GRAINS[window].step
        points = await runtime.rollup_reads.trend(span, step)
        return json_response(
            {
                "window": window.value,
                "since": span.since,
                "until": runtime.clock.now(),
                "step_s": step.total_seconds(),
                "points": [
                    {"start": point.start, "model": point.sums.model, **_figures(point.sums)}
                    for point in points
                ],
            }
        )

    @tenant_routes.get("/stats/segments")
    async def segments(
        request: Request, window: Asked = Window.WEEK, tenant: Tenant = None
    ) -> Response:
        """Per kind of request (a label's value, a length) and model: shares and quality."""
        found = await runtime.rollup_reads.segments(_wide(span_of(request, window, tenant)))
        by_segment: dict[str, dict[str, Any]] = {}
        for part in found:
            by_segment.setdefault(part.segment, {})[part.model] = {
                "decisions": part.decisions,
                "answers": part.answers,
                "cost_usd": ratio(part.cost_usd, part.answers),
                "quality": ratio(part.reward_sum, part.rewards),
                "rewards": part.rewards,
                "low_share": part.low_share,
            }
        shown = [
            {
                "segment": name,
                "decisions": sum(model["decisions"] for model in models.values()),
                "models": models,
            }
            for name, models in by_segment.items()
        ]
        shown.sort(key=lambda entry: -entry["decisions"])
        return json_response({"window": window.value, "segments": shown[:MOST_SEGMENTS]})

    @tenant_routes.get("/stats/advice")
    async def advice(
        request: Request, window: Asked = Window.WEEK, tenant: Tenant = None
    ) -> Response:
        """What the sums say that somebody should do something about, in words."""
        span = span_of(request, window, tenant)
        sums, kinds, last = await asyncio.gather(
            runtime.rollup_reads.totals(span),
            runtime.rollup_reads.segments(_wide(span)),
            runtime.rollup_reads.last_chosen(),
        )
        active = [m.name for m in runtime.config.routable if not m.paused]
        told = advise(
            _by_policy(sums),
            kinds,
            last,
            active,
            runtime.clock.now(),
            GRAINS[window].length,
        )
        if tenant_of(request) is None:
            more = (*on_changes(await _alarms(runtime)), *_on_trial(runtime))
            # Where something is the matter, "all is well" is not said.
            kept = [one for one in told if not (more and one.kind == "all_well")]
            told = tuple(sorted((*more, *kept), key=lambda one: one.severity != "warning"))
        return json_response({"window": window.value, "advice": told})

    @tenant_routes.get("/stats/cascades")
    async def cascades(
        request: Request, window: Asked = Window.DAY, tenant: Tenant = None
    ) -> Response:
        """Per cascade: requests, and how many went on to a stronger model."""
        span = span_of(request, window, tenant)
        found = await cascade_sums(runtime.engine, span.since, span.tenant)
        shown = [
            {
                "cascade": sums.cascade,
                "requests": sums.requests,
                "escalations": sums.escalations,
                "escalation_rate": sums.escalation_rate,
            }
            for sums in found
        ]
        return json_response({"window": window.value, "since": span.since, "cascades": shown})

    @operator_routes.get("/stats/policy")
    async def learned_policy() -> Response:
        """What the learned policy chooses where a feature is high, and where it is low."""
        serving = runtime.router.serving
        free = {m.name for m in runtime.config.routable if not m.paused}
        may = np.array([name in free for name in runtime.problem.arms])
        found = await asyncio.to_thread(
            leanings, runtime.problem, runtime.policy, serving.state, may
        )
        return json_response(
            {
                "snapshot_version": serving.version,
                "features": found,
                "words": await words_of(runtime),
            }
        )

    routes.include_router(tenant_routes)
    routes.include_router(operator_routes)
    return routes


async def _alarms(runtime: Runtime) -> list[tuple[str, str, str]]:
    return [(a.kind.value, a.subject, a.evidence) for a in await runtime.alarms.look()]


def _on_trial(runtime: Runtime) -> tuple[Advice, ...]:
    challenge, found = runtime.challenge, runtime.trial_watch.verdict
    if challenge is None:
        return ()
    setting = challenge.setting
    return on_trial(
        setting.challenger.name,
        setting.stage.value,
        setting.held,
        None if found is None else found.reason,
        found is not None and found.passed,
    )


def _span(now: datetime, grain: _Grain, tenant: str | None) -> Span:
    """The window that ends now, begun at a bucket's edge."""
    width = timedelta(seconds=grain.width_s)
    start = now - grain.length
    since = UTC_EPOCH + width * ((start - UTC_EPOCH) // width + 1)
    return Span(grain.width_s, since, now + width, tenant)


def _wide(span: Span) -> Span:
    """Kinds of requests have no buckets below a minute."""
    return Span(max(60, span.width_s), span.since, span.until, span.tenant)


def _by_policy(parts: Sequence[ModeSums]) -> tuple[ModelSums, ...]:
    return merged([part.sums for part in parts if part.mode != OVERRIDE])


def _figures(sums: ModelSums) -> dict[str, Any]:
    return {
        "decisions": sums.decisions,
        "answers": sums.answers,
        "outcomes": sums.outcomes,
        "cost_usd": sums.cost_usd,
        "cost_per_answer_usd": sums.cost_per_answer_usd,
        "quality": sums.quality,
        "rewards": sums.rewards,
        "low_share": sums.low_share,
        "latency_s": ratio(sums.latency_s, sums.answers),
        "first_token_s": ratio(sums.first_token_s, sums.first_tokens),
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "escalations": sums.escalations,
        "escalation_rate": ratio(sums.escalations, sums.decisions),
        "fallbacks": sums.fallbacks,
        "fallback_rate": ratio(sums.fallbacks, sums.outcomes),
        "failures": sums.failures,
        "failure_rate": ratio(sums.failures, sums.outcomes),
        "looks": sums.looks,
        "look_cost_usd": sums.look_cost_usd,
        "exploration_usd": sums.exploration_usd,
        "pmf_entropy": ratio(sums.entropy, sums.decisions),
    }


def _modes(parts: Sequence[ModeSums]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.mode] = counts.get(part.mode, 0) + part.sums.decisions
    return counts


def _by_mode(parts: Sequence[ModeSums]) -> list[dict[str, Any]]:
    """How content people were with each way of deciding, most frequent first."""
    modes: dict[str, list[ModelSums]] = {}
    for part in parts:
        modes.setdefault(part.mode, []).append(part.sums)
    shown = [{"mode": mode, **_figures(total(found))} for mode, found in modes.items()]
    return sorted(shown, key=lambda entry: -entry["decisions"])


def _models(
    runtime: Runtime, parts: Sequence[ModeSums], histograms: Histograms
) -> list[dict[str, Any]]:
    sums = {m.model: m for m in merged([part.sums for part in parts])}
    requests = sum(m.decisions for m in sums.values())
    configured = [model.name for model in runtime.config.models]
    shown = []
    for name in dict.fromkeys((*configured, *sums)):
        m = sums.get(name, ModelSums(name))
        latency = histograms.get((name, "latency"), {})
        rewards = histograms.get((name, "reward"), {})
        shown.append(
            {
                "model": name,
                **_figures(m),
                "share": ratio(m.decisions, requests),
                "expected_share": ratio(m.pmf, m.considered),
                "latency_p50_s": _seconds(latency, 0.5),
                "latency_p95_s": _seconds(latency, 0.95),
                "reward_histogram": [rewards.get(k, 0) for k in range(REWARD_BINS)],
                "always_cost_usd": m.always_cost_usd,
                "always_quality": m.always_quality,
            }
        )
    return shown


def _seconds(entries: dict[int, int], share: float) -> float | None:
    return seconds_at(quantile(entries, share), LEAST_SECONDS, BINS_PER_OCTAVE)


def _frontier(models: Sequence[ModelSums]) -> dict[str, Any]:
    """What each model alone would have come to, and where the router stands."""
    whole, best = total(models), best_model(models)
    return {
        "fixed": [
            {"model": m.model, "cost_usd": m.always_cost_usd, "quality": m.always_quality}
            for m in models
            if m.eligible
        ],
        "operating_point": {"cost_usd": whole.cost_per_answer_usd, "quality": whole.quality},
        "best": best.model if best else None,
    }
