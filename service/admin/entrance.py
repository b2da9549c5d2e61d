"""Who may come in: the scope is asked for here, once, for every operators' door."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from starlette.requests import Request

from bandit_router.errors import InvalidRequest
from bandit_router.store.api_keys import Principal, Scope
from service.errors import Refused
from service.runtime import Runtime

# An administrator whose key is of this tenant is one of the whole router.
WHOLE_ROUTER = "default"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is no JSON, or the request is not this router's to answer."},
    401: {"description": "No API key, or one that is unknown or revoked."},
    403: {"description": "The key lacks the scope `admin`, or is of one tenant only."},
    404: {"description": "Nothing is known under this name or id."},
    409: {"description": "What is asked for does not fit what is there."},
    413: {"description": "The body is too large."},
    422: {"description": "A field cannot be used; `param` names it."},
    500: {"description": "A bug; the log has it under the request id."},
    503: {"description": "The database cannot be reached just now; `Retry-After` says when."},
}


def tenant_doors(runtime: Runtime, theme: str) -> APIRouter:
    """Doors that a tenant's administrator may use too; they ask ``tenant_of`` what he may see."""

    async def admitted(request: Request) -> None:
        request.state.principal = await runtime.doorkeeper.admit(request.headers, Scope.ADMIN)

    return _doors(theme, admitted)


def operator_doors(runtime: Runtime, theme: str) -> APIRouter:
    """Doors to what all tenants share: for the whole router's administrators only."""

    async def admitted(request: Request) -> None:
        request.state.principal = await admit_operator(runtime, request)

    return _doors(theme, admitted)


async def admit_operator(runtime: Runtime, request: Request) -> Principal:
    """An administrator of the whole router. Raises Refused 401 or 403 for anybody else."""
    principal = await runtime.doorkeeper.admit(request.headers, Scope.ADMIN)
    if principal.tenant != WHOLE_ROUTER:
        raise Refused(
            f"key '{principal.name}' is an administrator of tenant '{principal.tenant}'; this "
            f"door concerns all tenants: use an admin key of tenant '{WHOLE_ROUTER}'",
            status=403,
            code="tenant_scope",
            kind="permission_error",
        )
    return principal


def principal_of(request: Request) -> Principal:
    """Who was let in."""
    principal: Principal = request.state.principal
    return principal


def tenant_of(request: Request) -> str | None:
    """The one tenant that the caller may look at; None is all of them."""
    tenant = principal_of(request).tenant
    return None if tenant == WHOLE_ROUTER else tenant


def _doors(theme: str, admitted: Any) -> APIRouter:
    async def without_nul(request: Request) -> None:
        # Postgres has no text with NUL in it: such a name fits nothing, and is a mistake.
        for name, value in (*request.path_params.items(), *request.query_params.items()):
            if "\0" in str(value):
                raise InvalidRequest(f"{name} holds a NUL character; leave it out", param=name)

    return APIRouter(
        prefix="/admin",
        tags=[f"admin: {theme}"],
        dependencies=[Depends(admitted), Depends(without_nul)],
        responses=REFUSALS,
    )
