"""GET /admin/snapshots: the stored states of what was learned."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from bandit_router.errors import ConfigError, SnapshotError
from bandit_router.learning import LearnedState
from bandit_router.policies import Policy
from bandit_router.router import policy_of
from bandit_router.snapshot import from_bytes
from bandit_router.snapshot_diff import SnapshotDiff, diff
from service.admin.entrance import operator_doors
from service.answers import json_response
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
        states = [await stored_state(runtime, name, version) for version in (before, after)]
        return json_response(diff(runtime.problem, policy_named(runtime, name), *states))

    return routes


async def stored_state(runtime: Runtime, policy: str, version: int) -> LearnedState:
    """A snapshot's state. Raises Refused 404 where it is not kept, 409 where it does not fit."""
    record = await runtime.learner_store.snapshot(policy, version)
    if record is None:
        raise Refused(
            f"policy '{policy}' has no snapshot {version}, or no longer; GET /admin/snapshots "
            "lists those that are kept",
            status=404,
            code="snapshot_not_found",
        )
    try:
        return from_bytes(runtime.problem, policy_named(runtime, policy), record.payload)
    except SnapshotError as error:
        raise Refused(
            f"snapshot {version}: {error}", status=409, code="snapshot_does_not_fit"
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
