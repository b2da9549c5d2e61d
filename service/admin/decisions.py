"""GET /admin/decisions: what was decided, and all that followed."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bandit_router import inspection
from bandit_router.store.decision_log import unknown_decision
from service.admin.entrance import tenant_doors, tenant_of
from service.answers import decision_id_of, json_response
from service.route import shown_decision
from service.runtime import Runtime


def decision_routes(runtime: Runtime) -> APIRouter:
    """The doors to decisions."""
    routes = tenant_doors(runtime, "decisions")

    @routes.get("/decisions/{decision_id}")
    async def one_decision(request: Request, decision_id: str) -> Response:
        """A decision with all that followed, its pmf recomputed and compared."""
        asked = decision_id_of(decision_id)
        detail = await runtime.inspection.decision_detail(asked)
        if detail is None or tenant_of(request) not in (None, detail.decision.tenant):
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

    return routes
