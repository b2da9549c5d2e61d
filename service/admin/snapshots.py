"""GET /admin/snapshots: the stored states of what was learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.errors import ConfigError, SnapshotError
from bandit_router.learning import LearnedState
from bandit_router.policies import Policy
from bandit_router.protocols import SnapshotRecord
from bandit_router.router import policy_of
from bandit_router.snapshot import from_bytes, to_bytes
from bandit_router.snapshot_diff import SnapshotDiff, diff
from service.admin.acts import act
from service.admin.entrance import operator_doors
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.errors import Refused
from service.runtime import Runtime

Version = Annotated[int, Query(ge=0, le=2**63 - 1)]


def snapshot_routes(runtime: Runtime) -> APIRouter:
    """The doors to snapshots."""
    routes = operator_doors(runtime, "snapshots")

    @routes.get("/snapshots")
    async def snapshots(
        policy: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Snapshots without their payload, newest first."""
        return json_response({"snapshots": await runtime.inspection.snapshots(policy, limit=limit)})

    @routes.get("/snapshots/diff", response_model=SnapshotDiff)
    async def compare(before: Version, after: Version, policy: str | None = None) -> Response:
        """What changed in the beliefs between two versions of a policy, by default the serving
        one's."""
        name = policy or runtime.policy.name
        records = [await stored(runtime, name, version) for version in (before, after)]
        states = [state_of(runtime, record) for record in records]
        return json_response(diff(runtime.problem, policy_named(runtime, name), *states))

    @routes.post("/snapshots/rollback", openapi_extra=body_of(Rollback))
    async def go_back(request: Request) -> Response:
        """Believe again what an earlier version believed. What was decided since teaches nothing
        any more, unless `keep_evidence`; money spent stays spent. Going to the version that
        served before undoes it."""
        asked = validated(Rollback, await read_object(request, runtime.config.server))
        detail = asked.model_dump()
        async with act(runtime, request, "snapshots.rollback", runtime.policy.name, detail):
            name = runtime.policy.name
            old = await stored(runtime, name, asked.version)
            state = state_of(runtime, old)
            now = runtime.router.serving.state.pacer
            pacer = replace(state.pacer, account_usd=now.account_usd, paid=now.paid)
            payload = to_bytes(runtime.problem, runtime.policy, replace(state, pacer=pacer))
            record = replace(
                old,
                created_at=runtime.clock.now(),
                reason="rollback",
                payload=payload,
            )
            done = await runtime.live_settings.go_back(
                record,
                old.created_at,
                keep_evidence=asked.keep_evidence,
                reason=f"back to snapshot {asked.version}: {asked.reason}",
            )
        return json_response(
            {
                "policy": name,
                "restored": asked.version,
                "version": done.version,
                "was": done.was,
                "excluded_decisions": done.excluded_decisions,
                "exclusion": done.exclusion or None,
            }
        )

    return routes


class Rollback(BaseModel):
    """version: whose beliefs to have again. keep_evidence: learn anew from what came since."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]
    keep_evidence: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


async def stored(runtime: Runtime, policy: str, version: int) -> SnapshotRecord:
    """One snapshot. Raises Refused 404 where it is not kept."""
    record = await runtime.learner_store.snapshot(policy, version)
    if record is None:
        raise Refused(
            f"policy '{policy}' has no snapshot {version}, or no longer; GET /admin/snapshots "
            "lists those that are kept",
            status=404,
            code="snapshot_not_found",
        )
    return record


def state_of(runtime: Runtime, record: SnapshotRecord) -> LearnedState:
    """A snapshot's state. Raises Refused 409 where it does not fit what is configured."""
    try:
        return from_bytes(runtime.problem, policy_named(runtime, record.policy), record.payload)
    except SnapshotError as error:
        raise Refused(
            f"snapshot {record.version}: {error}", status=409, code="snapshot_does_not_fit"
        ) from error


def policy_named(runtime: Runtime, name: str) -> Policy[Any]:
    """The policy of this name, as the configuration would make it. Raises Refused 404."""
    if name == runtime.policy.name:
        return runtime.policy
    section = runtime.config.policy.model_copy(update={"name": name})
    try:
        return policy_of(runtime.config.model_copy(update={"policy": section}))
    except ConfigError as error:
        raise Refused(str(error), status=404, code="policy_not_found", param="policy") from error
