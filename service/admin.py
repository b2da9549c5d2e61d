"""GET /admin/…: what was learned, and why a model was chosen."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bandit_router import inspection, snapshot
from bandit_router.errors import ConfigError, SnapshotError
from bandit_router.learning import LearnedState
from bandit_router.policies import Policy
from bandit_router.router import policy_of
from bandit_router.store.api_keys import Scope
from bandit_router.store.decision_log import unknown_decision
from service.answers import decision_id_of, json_response
from service.errors import Refused
from service.route import shown_decision
from service.runtime import Runtime


def admin_routes(runtime: Runtime) -> APIRouter:
    """The doors for operators."""
    routes = APIRouter(prefix="/admin", tags=["admin"])

    async def admit(request: Request) -> None:
        await runtime.doorkeeper.admit(request.headers, Scope.ADMIN)

    @routes.get("/policies")
    async def policies(request: Request) -> Response:
        """The policy that serves, and others that left snapshots."""
        await admit(request)
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
    async def one_policy(request: Request, name: str) -> Response:
        """What a policy believes of every model, and by which features."""
        await admit(request)
        policy, version, state = await _policy(runtime, name)
        body = _shown_state(runtime, policy, state)
        body |= {
            "name": name,
            "serving": name == runtime.policy.name,
            "snapshot_version": version,
            "extractor_version": runtime.extractor.version,
        }
        if name == runtime.policy.name:
            body["learner"] = {
                "leads": runtime.learner_task.leads,
                "error": runtime.learner_task.last_error,
                "progress": runtime.learner.progress,
                "quarantine": list(runtime.learner.quarantine),
            }
        return json_response(body)

    @routes.get("/decisions/{decision_id}")
    async def one_decision(request: Request, decision_id: str) -> Response:
        """A decision with all that followed, its pmf recomputed and compared."""
        await admit(request)
        asked = decision_id_of(decision_id)
        detail = await runtime.inspection.decision_detail(asked)
        if detail is None:
            raise unknown_decision(asked)
        decision = detail.decision
        record = await runtime.learner_store.snapshot(decision.policy, decision.snapshot_version)
        return json_response(
            {
                "decision": {
                    **shown_decision(decision),
                    "seq": detail.seq,
                    "tenant": decision.tenant,
                    "session_id": decision.session_id,
                    "metadata": dict(decision.metadata),
                    "prompt": decision.prompt,
                    "extractor_version": decision.extractor_version,
                    "features": decision.features,
                    "exploration": decision.exploration,
                },
                "outcome": detail.outcome,
                "attempts": detail.attempts,
                "feedback": detail.feedback,
                "rewards": detail.rewards,
                "reward": detail.reward,
                "pmf_check": inspection.check_pmf(
                    runtime.problem, runtime.policy, decision, record
                ),
            }
        )

    @routes.get("/snapshots")
    async def snapshots(
        request: Request,
        policy: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Snapshots without their payload, newest first."""
        await admit(request)
        return json_response({"snapshots": await runtime.inspection.snapshots(policy, limit=limit)})

    @routes.get("/models")
    async def models(request: Request) -> Response:
        """Every model: how it is configured, whether it cools down and why, how reliable."""
        await admit(request)
        return json_response({"models": [_shown_model(runtime, name) for name in runtime.models]})

    return routes


async def _policy(runtime: Runtime, name: str) -> tuple[Policy[Any], int, LearnedState]:
    """The serving policy's state, or the newest one that another policy left."""
    if name == runtime.policy.name:
        serving = runtime.router.serving
        return runtime.policy, serving.version, serving.state
    record = await runtime.learner_store.latest_snapshot(name)
    if record is None:
        raise _no_policy(f"no policy '{name}' serves or has snapshots; GET /admin/policies lists")
    section = runtime.config.policy.model_copy(update={"name": name})
    try:
        policy = policy_of(runtime.config.model_copy(update={"policy": section}))
        state = snapshot.from_bytes(runtime.problem, policy, record.payload)
    except (ConfigError, SnapshotError) as error:
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


def _shown_model(runtime: Runtime, name: str) -> dict[str, Any]:
    model = runtime.models[name]
    cooling = runtime.cooldowns.cooling(name)
    cooldown = None
    if cooling is not None:
        cooldown = {
            "reason": cooling.reason,
            "for_s": cooling.until_monotonic_s - runtime.clock.monotonic_s(),
            "consecutive_fails": cooling.consecutive_fails,
        }
    return {
        **model.model_dump(mode="json"),
        "cooldown": cooldown,
        "reliability": runtime.cooldowns.reliability(name),
    }
