"""GET /admin/policies: what was learned, and by which features."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from bandit_router import inspection, snapshot
from bandit_router.errors import SnapshotError
from bandit_router.learning import LearnedState
from bandit_router.policies import Policy
from service.admin.entrance import operator_doors
from service.admin.snapshots import policy_named
from service.admin.words import words_of
from service.answers import json_response
from service.errors import Refused
from service.runtime import Runtime


def policy_routes(runtime: Runtime) -> APIRouter:
    """The doors to policies."""
    routes = operator_doors(runtime, "policies")

    @routes.get("/policies")
    async def policies() -> Response:
        """The policy that serves, and others that left snapshots."""
        serving = runtime.policy.name
        found = {serving: runtime.router.serving.version}
        for entry in await runtime.inspection.snapshots(limit=10_000):
            found.setdefault(entry.policy, entry.version)
        return json_response(
            {
                "policies": [
                    {"name": name, "serving": name == serving, "snapshot_version": version}
                    for name, version in found.items()
                ]
            }
        )

    @routes.get("/policies/{name}")
    async def one_policy(name: str) -> Response:
        """What a policy believes of every model, and by which features."""
        policy, version, state = await _policy(runtime, name)
        body = _shown_state(runtime, policy, state)
        body |= {
            "name": name,
            "serving": name == runtime.policy.name,
            "snapshot_version": version,
            "extractor_version": runtime.extractor.version,
            "words": await words_of(runtime),
        }
        if name == runtime.policy.name:
            learner = runtime.learner_standing
            body["learner"] = {
                "leads": learner.leads,
                "error": learner.last_error,
                "progress": learner.progress,
                "quarantine": learner.quarantine,
            }
        return json_response(body)

    return routes


async def _policy(runtime: Runtime, name: str) -> tuple[Policy[Any], int, LearnedState]:
    """The serving policy's state, or the newest one that another policy left."""
    if name == runtime.policy.name:
        serving = runtime.router.serving
        return runtime.policy, serving.version, serving.state
    record = await runtime.learner_store.latest_snapshot(name)
    if record is None:
        raise _no_policy(f"no policy '{name}' serves or has snapshots; GET /admin/policies lists")
    policy = policy_named(runtime, name)
    try:
        state = snapshot.from_bytes(runtime.problem, policy, record.payload)
    except SnapshotError as error:
        raise _no_policy(f"the snapshots of policy '{name}' cannot be shown: {error}") from error
    return policy, record.version, state


def _no_policy(message: str) -> Refused:
    return Refused(message, status=404, code="policy_not_found", param="name")


def _shown_state(runtime: Runtime, policy: Policy[Any], state: LearnedState) -> dict[str, Any]:
    pacer = state.pacer
    return {
        "models": inspection.arm_reports(runtime.problem, policy, state),
        "pulls": dict(zip(runtime.problem.arms, state.pulls.tolist(), strict=True)),
        "rewards": dict(zip(runtime.problem.arms, state.rewards.tolist(), strict=True)),
        "clock": state.clock,
        "half_life_decisions": state.half_life_decisions,
        "basis": {
            "dimension": state.basis.dimension,
            "coordinates": state.basis.names,
            "features": len(runtime.problem.feature_names),
        },
        "budget": {
            "usd_per_request": runtime.problem.budget_usd,
            "price_of_dollar": pacer.price_of_dollar,
            "price_of_second": runtime.problem.value_of_second,
            "account_usd": pacer.account_usd,
            "paid": pacer.paid,
        },
    }
