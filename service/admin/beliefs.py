"""GET /admin/segments, /calibration, /exploration, /budget: how well what was learned holds."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bandit_router import pacing
from bandit_router.basis import coordinates_of_rows
from bandit_router.calibration import calibration, exploration_cost
from bandit_router.inspection import entry
from bandit_router.learning import LearnedState, Problem, predict
from bandit_router.store.prediction_log import Expectations, SegmentRows
from bandit_router.types import FloatArray
from service.admin.entrance import operator_doors, tenant_doors, tenant_of
from service.answers import json_response
from service.runtime import Runtime

Z95 = 1.959963984540054
MOST_SEGMENTS = 20
DAY = timedelta(days=1)
Days = Annotated[int, Query(ge=1, le=90, description="How far back.")]
Newest = Annotated[int, Query(ge=1, le=20_000, description="Look at so many decisions at most.")]


def belief_routes(runtime: Runtime) -> APIRouter:
    """The doors to beliefs beside what happened."""
    routes = APIRouter()
    tenant = tenant_doors(runtime, "beliefs")
    whole = operator_doors(runtime, "beliefs")

    async def newest(days: int, limit: int, of: str | None) -> Expectations:
        since = runtime.clock.now() - days * DAY
        return await runtime.predictions.newest(runtime.problem.arms, since, limit=limit, tenant=of)

    @tenant.get("/calibration")
    async def calibrations(request: Request, days: Days = 7, newest_of: Newest = 2_000) -> Response:
        """Predicted against observed quality, cost and latency, in all and per model, over
        decisions whose chosen model answered. With today's set of models only."""
        log = await newest(days, newest_of, tenant_of(request))
        reports = [_calibration("", log, np.ones(log.arm.size, dtype=np.bool_))]
        reports += [_calibration(name, log, log.arm == k) for k, name in enumerate(log.arms)]
        return json_response(
            {"decisions": log.arm.size, "overall": reports[0], "models": reports[1:]}
        )

    @tenant.get("/segments")
    async def segments(
        request: Request,
        key: Annotated[str, Query(min_length=1, max_length=64)] = "task",
        newest_of: Newest = 1_000,
    ) -> Response:
        """What is believed of every model for requests with each value of a metadata label,
        beside what was observed there; most frequent first."""
        rows = await runtime.predictions.segments(
            key, runtime.extractor.version, limit=newest_of, tenant=tenant_of(request)
        )
        serving = runtime.router.serving
        # Arithmetic over many requests would hold up all others here.
        found = await asyncio.to_thread(_segments, runtime, serving.state, rows)
        return json_response(
            {
                "key": key,
                "snapshot_version": serving.version,
                "decisions": len(rows.segment),
                "segments": found,
            }
        )

    @whole.get("/exploration")
    async def exploration(days: Days = 1, newest_of: Newest = 2_000) -> Response:
        """What exploring costs: choices that did not look best, forced looks and their budget."""
        log = await newest(days, newest_of, None)
        chosen = log.by_policy
        penalty = (
            log.price_of_dollar[:, None] * log.cost_usd
            + log.price_of_second[:, None] * log.latency_s
        )
        cost = exploration_cost(
            log.arm[chosen],
            log.eligible[chosen],
            log.quality[chosen],
            log.cost_usd[chosen],
            (log.quality - penalty)[chosen],
            log.looks[chosen],
            log.paid_usd[chosen],
        )
        day = await runtime.rollup_reads.last_day(runtime.clock.now())
        spent_usd = sum(model.look_cost_usd for model in day)
        config = runtime.config.exploration
        return json_response(
            {
                "enabled": config.enabled,
                "cost": cost,
                "look_budget": {
                    "usd_per_day": config.look_budget_usd_per_day,
                    "spent_last_day_usd": spent_usd,
                    "left_usd": max(config.look_budget_usd_per_day - spent_usd, 0.0),
                },
                "floor": config.floor,
                "min_pulls_per_day": config.min_pulls_per_day,
            }
        )

    @whole.get("/budget")
    async def budget() -> Response:
        """The budget, what stands on its account, and λ, the price of a dollar in quality."""
        return json_response(await shown_budget(runtime))

    for part in (tenant, whole):
        routes.include_router(part)
    return routes


async def shown_budget(runtime: Runtime) -> dict[str, Any]:
    """Budget, account and λ, and what the last day really cost, by the model that answered."""
    pacer, budget_usd = runtime.router.serving.state.pacer, runtime.problem.budget_usd
    day = await runtime.rollup_reads.last_day(runtime.clock.now())
    requests = sum(model.decisions for model in day)
    cost_usd = sum(model.cost_usd for model in day)
    return {
        "usd_per_request": budget_usd,
        "target_usd": None if budget_usd is None else pacing.target_usd(pacer, budget_usd),
        "price_of_dollar": pacer.price_of_dollar,
        "price_of_second": runtime.problem.value_of_second,
        "account_usd": pacer.account_usd,
        "paid_requests": pacer.paid,
        "last_day": {
            "requests": requests,
            "cost_usd": cost_usd,
            "usd_per_request": cost_usd / requests if requests else None,
            "cost_usd_by_model": {model.model: model.cost_usd for model in day},
        },
    }


def _calibration(name: str, log: Expectations, which: Any) -> Any:
    rows = np.flatnonzero(which)
    arm = log.arm[rows]
    return calibration(
        name,
        log.quality[rows, arm],
        log.reward[rows],
        log.cost_usd[rows, arm],
        log.paid_usd[rows],
        log.latency_s[rows, arm],
        log.took_s[rows],
    )


def _segments(runtime: Runtime, state: LearnedState, rows: SegmentRows) -> list[dict[str, Any]]:
    members: dict[str, list[int]] = {}
    for index, value in enumerate(rows.segment):
        if value is not None:
            members.setdefault(value, []).append(index)
    common = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_SEGMENTS]
    return [
        _segment(runtime.problem, runtime.policy, state, value, rows, np.array(found))
        for value, found in common
    ]


def _segment(
    problem: Problem, policy: Any, state: LearnedState, value: str, rows: SegmentRows, found: Any
) -> dict[str, Any]:
    z: FloatArray = coordinates_of_rows(state.basis, rows.features[found]).mean(axis=0)
    beliefs, expected = predict(problem, policy, state, z, float(rows.input_tokens[found].mean()))
    models = []
    for k, name in enumerate(problem.arms):
        own = [i for i in found.tolist() if rows.answered_by[i] == name]
        reward, cost_usd = rows.reward[own], rows.cost_usd[own]
        models.append(
            {
                "model": name,
                "quality": beliefs.mean[k],
                "quality_low": beliefs.mean[k] - Z95 * beliefs.sd[k],
                "quality_high": beliefs.mean[k] + Z95 * beliefs.sd[k],
                "cost_usd": expected.cost_usd[k],
                "latency_s": expected.latency_s[k],
                "first_token_s": entry(expected.first_token_s, k),
                "answers": len(own),
                "rewards": int(np.isfinite(reward).sum()),
                "observed_quality": _mean(reward),
                "observed_cost_usd": _mean(cost_usd),
            }
        )
    return {"value": value, "decisions": int(found.size), "models": models}


def _mean(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
