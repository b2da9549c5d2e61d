"""/admin/challengers: policies on trial beside the one that serves, and every step of a trial."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.config_challengers import ChallengerConfig, ChallengerName, Stage
from bandit_router.store.trial_store import TrialStore
from bandit_router.trial_evaluation import evaluated
from service.admin.entrance import operator_doors, principal_of
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.errors import Refused
from service.runtime import Runtime
from service.trial_watch import shown_numbers
from service.trials import Trials


class Reason(BaseModel):
    """Why, for the audit log."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""


class Declared(Reason):
    """name: of one that the configuration declares."""

    name: ChallengerName


def challenger_routes(runtime: Runtime) -> APIRouter:
    """The doors to challengers."""
    routes = operator_doors(runtime, "challengers")
    trials = Trials(runtime)

    async def asked(request: Request, model: type[Reason]) -> Any:
        return validated(model, await read_object(request, runtime.config.server))

    @routes.get("/challengers")
    async def challengers(
        limit: Annotated[int, Query(ge=1, le=500)] = 20,
        before: Annotated[int | None, Query(ge=1)] = None,
    ) -> Response:
        """Who serves, who is on trial and how it does, who is declared, and the steps so far."""
        standing = await trials.standing()
        steps = await trials.steps(limit=limit, before=before)
        return json_response(
            {
                "serving": {
                    "line": runtime.policy.name,
                    "promoted": standing.champion and standing.champion.model_dump(mode="json"),
                },
                "trial": _shown_trial(runtime),
                "declared": [c.model_dump(mode="json") for c in runtime.config.challengers],
                "steps": steps,
                "next": steps[-1].id if len(steps) == limit else None,
            }
        )

    @routes.get("/challengers/evaluation")
    async def evaluation(
        limit: Annotated[int, Query(ge=100, le=100_000)] = 20_000,
    ) -> Response:
        """Both policies on the trial's newest decisions, off-policy: estimates of reward and
        cost with intervals, their difference, or why they are refused."""
        challenge = runtime.challenge
        if challenge is None:
            raise Refused("no challenger is on trial", status=409, code="no_trial")
        setting = challenge.setting
        rows = await TrialStore(runtime.engine).decided(setting.line, setting.started_at, limit)
        found = await asyncio.to_thread(evaluated, rows, runtime.problem.arms)
        if found is None:
            raise Refused(
                "no decision between these models is under trial yet: send requests",
                status=409,
                code="nothing_to_evaluate",
            )
        return json_response({"challenger": setting.challenger.name, "evaluation": found})

    @routes.post("/challengers", status_code=201, openapi_extra=body_of(ChallengerConfig))
    async def start(request: Request) -> Response:
        """Put a challenger on trial in shadow: it is asked about every decision, learns from the
        same log, and is never followed."""
        body = await read_object(request, runtime.config.server)
        await trials.start(validated(ChallengerConfig, body), actor=principal_of(request).name)
        return json_response(_shown_trial(runtime), 201)

    @routes.post("/challengers/start", status_code=201, openapi_extra=body_of(Declared))
    async def start_declared(request: Request) -> Response:
        """Put a challenger of the configuration on trial in shadow."""
        wanted = await asked(request, Declared)
        await trials.start(wanted.name, actor=principal_of(request).name)
        return json_response(_shown_trial(runtime), 201)

    @routes.post("/challengers/canary", openapi_extra=body_of(Reason))
    async def canary(request: Request) -> Response:
        """Give the challenger its share of requests, by an exact mixture of both policies."""
        reason = (await asked(request, Reason)).reason
        await trials.move(Stage.CANARY, actor=principal_of(request).name, reason=reason)
        return json_response(_shown_trial(runtime))

    @routes.post("/challengers/shadow", openapi_extra=body_of(Reason))
    async def shadow(request: Request) -> Response:
        """Take the challenger's share of requests away; it is only asked from now on, and goes
        on by itself no more."""
        reason = (await asked(request, Reason)).reason or "an operator took it back"
        await trials.move(Stage.SHADOW, actor=principal_of(request).name, reason=reason, held=True)
        return json_response(_shown_trial(runtime))

    @routes.post("/challengers/promote", openapi_extra=body_of(Reason))
    async def promote(request: Request) -> Response:
        """Let the challenger serve all requests. `POST /admin/challengers/rollback` undoes it."""
        reason = (await asked(request, Reason)).reason
        done = await trials.promote(actor=principal_of(request).name, reason=reason)
        return json_response(
            {"serving": runtime.policy.name, "promoted": done.model_dump(mode="json")}
        )

    @routes.post("/challengers/abort", openapi_extra=body_of(Reason))
    async def abort(request: Request) -> Response:
        """End the trial; who serves goes on serving."""
        reason = (await asked(request, Reason)).reason
        ended = await trials.abort(actor=principal_of(request).name, reason=reason)
        return json_response({"aborted": ended.challenger.name})

    @routes.post("/challengers/rollback", openapi_extra=body_of(Reason))
    async def rollback(request: Request) -> Response:
        """Let whoever served before the promoted challenger serve again, having learned from
        everything since."""
        reason = (await asked(request, Reason)).reason
        gone = await trials.go_back(actor=principal_of(request).name, reason=reason)
        return json_response({"serving": runtime.policy.name, "gone": gone.name})

    return routes


def _shown_trial(runtime: Runtime) -> dict[str, Any] | None:
    challenge = runtime.challenge
    if challenge is None:
        return None
    watch = runtime.trial_watch
    contender, learner = challenge.contender, runtime.standing_of(challenge.learning)
    return {
        **challenge.setting.model_dump(mode="json"),
        "learns": not challenge.setting.frozen,
        "snapshot_version": contender.serving.version,
        "learner": {"leads": learner.leads, "error": learner.last_error},
        "failures": contender.failures,
        "last_error": contender.last_error,
        "numbers": None if watch.numbers is None else shown_numbers(watch.numbers),
        "verdict": watch.verdict,
    }
