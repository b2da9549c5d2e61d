"""GET /admin/decisions, /admin/attempts, POST /admin/what-if: what was decided, why, and what
followed."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import Response

from bandit_router import inspection
from bandit_router.choosers import STATE_OF
from bandit_router.errors import SnapshotError
from bandit_router.feature_words import label_words
from bandit_router.learning import LearnedState, init_state
from bandit_router.protocols import SnapshotRecord
from bandit_router.router import options_of
from bandit_router.snapshot import from_bytes
from bandit_router.store.decision_list import DecisionFilter, DecisionPage
from bandit_router.store.decision_log import unknown_decision
from bandit_router.types import AttemptStatus, Decision, Mode
from bandit_router.why import why
from service.admin.entrance import tenant_doors, tenant_of
from service.answers import decision_id_of, json_response
from service.body import read_object
from service.chat_request import parse_chat
from service.errors import Refused
from service.route import shown_decision
from service.runtime import Runtime

Limit = Annotated[int, Query(ge=1, le=500)]
Name = Annotated[str | None, Query(max_length=256)]
Reward = Annotated[float | None, Query(ge=0.0, le=1.0, allow_inf_nan=False)]
CHAT_BODY = {
    "requestBody": {
        "required": True,
        "description": "A request as POST /v1/chat/completions takes it.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def decision_routes(runtime: Runtime) -> APIRouter:
    """The doors to decisions."""
    routes = tenant_doors(runtime, "decisions")

    @routes.get("/decisions", response_model=DecisionPage)
    async def decisions(
        request: Request,
        tenant: Name = None,
        model: Name = None,
        answered_by: Name = None,
        mode: Mode | None = None,
        policy: Name = None,
        session_id: Name = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        status: AttemptStatus | Literal["unknown"] | None = None,
        has_feedback: bool | None = None,
        reward_low: Reward = None,
        reward_high: Reward = None,
        before: UUID | None = None,
        limit: Limit = 50,
    ) -> Response:
        """Decisions, newest first. `next` of the answer goes into `before` of the next call; a
        page may be short, and still have a next one, where few decisions fit."""
        asked = DecisionFilter(
            tenant=_visible(request, tenant),
            model=model,
            answered_by=answered_by,
            mode=mode and mode.value,
            policy=policy,
            session_id=session_id,
            since=since,
            until=until,
            status=str(status) if status else None,
            has_feedback=has_feedback,
            reward_low=reward_low,
            reward_high=reward_high,
        )
        page = await runtime.decision_list.decisions(asked, before=before, limit=limit)
        return json_response(page)

    @routes.get("/decisions/{decision_id}")
    async def one_decision(request: Request, decision_id: str) -> Response:
        """A decision with all that followed, why it fell so, its pmf recomputed and compared."""
        asked = decision_id_of(decision_id)
        detail = await runtime.inspection.decision_detail(asked)
        if detail is None or tenant_of(request) not in (None, detail.decision.tenant):
            raise unknown_decision(asked)
        decision = detail.decision
        learned = decision.influences.get(STATE_OF, decision.policy)
        record = await runtime.learner_store.snapshot(learned, decision.snapshot_version)
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
                    "trial": decision.trial,
                },
                "why": _why(runtime, decision, _state_of(runtime, decision, record)),
                # Of its own labels only: another tenant's are none of the asker's business.
                "words": label_words(runtime.problem.feature_names, decision.metadata.items()),
                "outcome": detail.outcome,
                "attempts": detail.attempts,
                "feedback": detail.feedback,
                "rewards": detail.rewards,
                "reward": detail.reward,
                "pmf_check": inspection.check_pmf(
                    runtime.problem,
                    runtime.policy,
                    decision,
                    record,
                    options_of(runtime.config),
                ),
            }
        )

    @routes.get("/attempts")
    async def attempts(
        request: Request,
        tenant: Name = None,
        model: Name = None,
        status: AttemptStatus | None = None,
        before: Annotated[str | None, Query(pattern=r"^[0-9a-f-]{36}:\d{1,4}$")] = None,
        limit: Limit = 50,
    ) -> Response:
        """Calls of models, newest decision first; `next` goes into `before`. A page may be short,
        and still have a next one, where few calls fit."""
        page = await runtime.decision_list.attempts(
            tenant=_visible(request, tenant),
            model=model,
            status=status and status.value,
            before=_place(before),
            limit=limit,
        )
        following = None if page.next is None else "{}:{}".format(*page.next)
        return json_response({"attempts": page.attempts, "next": following})

    @routes.post("/what-if", openapi_extra=CHAT_BODY)
    async def what_if(request: Request) -> Response:
        """What would be chosen for this request, and why. Nothing is called, stored or counted."""
        body = await read_object(request, runtime.config.server)
        chat = parse_chat(body, session_id=None, tenant=tenant_of(request) or "default")
        serving = runtime.router.serving
        decision = await runtime.decide(chat.routing, dry_run=True)
        shown = shown_decision(decision)
        del shown["decision_id"]
        return json_response(
            {
                "decision": shown,
                "why": _why(runtime, decision, serving.state),
            }
        )

    return routes


def _visible(request: Request, tenant: str | None) -> str | None:
    """The tenant to look at: the caller's own, where he has but one."""
    own = tenant_of(request)
    if own is not None and tenant not in (None, own):
        raise Refused(
            f"this key is an administrator of tenant '{own}', not of '{tenant}'",
            status=403,
            code="tenant_scope",
            kind="permission_error",
            param="tenant",
        )
    return own or tenant


def _place(before: str | None) -> tuple[UUID, int] | None:
    if before is None:
        return None
    decision, _, position = before.partition(":")
    return decision_id_of(decision), int(position)


def _why(runtime: Runtime, decision: Decision, state: LearnedState | None) -> Any:
    return why(decision, state, runtime.problem.arms)


def _state_of(
    runtime: Runtime, decision: Decision, record: SnapshotRecord | None
) -> LearnedState | None:
    """The state that a decision was made with; None where it cannot be had any more."""
    if decision.policy != runtime.policy.name:
        return None
    if record is None:
        fresh = decision.snapshot_version == 0
        return init_state(runtime.problem, runtime.policy) if fresh else None
    try:
        return from_bytes(runtime.problem, runtime.policy, record.payload)
    except SnapshotError:
        return None
