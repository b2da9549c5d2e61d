"""GET, PUT /admin/feedback/sources: who posts feedback, and how far each source is believed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.store.source_table import SourceReport, SourceTable
from service.admin.acts import act
from service.admin.entrance import operator_doors
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.runtime import Runtime


class SourceBody(BaseModel):
    """quarantined: whether the source's signals count for nothing. reason: for who asks later."""

    model_config = ConfigDict(extra="forbid")

    quarantined: bool
    reason: Annotated[str, Field(min_length=1, max_length=500, strict=True)]


def source_routes(runtime: Runtime) -> APIRouter:
    """The doors to the sources of feedback."""
    routes = operator_doors(runtime, "feedback")

    @routes.get("/feedback/sources")
    async def sources() -> Response:
        """Every source with what it said of each model beside what was predicted, and why it is
        set aside, if it is; the one with the most signals first."""
        reports = await SourceTable(runtime.engine).reports()
        return json_response({"sources": [_as_json(report) for report in reports]})

    @routes.put("/feedback/sources/{source}", openapi_extra=body_of(SourceBody))
    async def decide(source: str, request: Request) -> Response:
        """Set a source aside, or believe it whatever the statistics say. The rewards that its
        earlier signals made follow with the next signal that anybody posts."""
        body = await read_object(request, runtime.config.server)
        told = validated(SourceBody, body)
        table = SourceTable(runtime.engine)
        action = "feedback source set aside" if told.quarantined else "feedback source believed"
        async with act(runtime, request, action, source, {"reason": told.reason}):
            await table.decide(
                source, quarantined=told.quarantined, reason=told.reason, now=runtime.clock.now()
            )
        (report,) = [each for each in await table.reports() if each.source == source]
        return json_response(_as_json(report))

    return routes


def _as_json(report: SourceReport) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "source": report.source,
        "signals": report.signals,
        "quarantined": verdict is not None and verdict.quarantined,
        "reason": None if verdict is None else verdict.reason,
        "decided_at": None if verdict is None else verdict.decided_at,
        "by_operator": verdict is not None and verdict.by_operator,
        "models": [
            {
                "metric": metric,
                "model": model,
                "signals": tally.count,
                "beside_predicted": tally.total / tally.count if tally.count else None,
            }
            for (metric, model), tally in sorted(report.tallies.items())
        ],
    }
