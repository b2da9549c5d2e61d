"""/admin/keys and /admin/audit: who may call, and who changed what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from bandit_router.store.api_keys import ApiKey, Scope
from bandit_router.store.audit import list_audit
from service.admin.acts import act
from service.admin.entrance import operator_doors
from service.answers import json_response
from service.body import read_object, validated
from service.documented import body_of
from service.errors import Refused
from service.runtime import Runtime

Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
KeyId = Annotated[int, Path(ge=1, le=2**63 - 1)]


class NewKey(BaseModel):
    """name: whose key it is. tenant: under which its calls are logged; an admin key of the
    tenant `default` is one of the whole router."""

    model_config = ConfigDict(extra="forbid")

    name: Words
    tenant: Words = "default"
    scopes: Annotated[list[Scope], Field(min_length=1)] = [Scope.ROUTE, Scope.FEEDBACK]


def key_routes(runtime: Runtime) -> APIRouter:
    """The doors to API keys and to the audit log."""
    routes = operator_doors(runtime, "keys and audit")

    @routes.get("/keys")
    async def keys() -> Response:
        """Every key there is or was, without the key itself, of which only a hash is stored."""
        return json_response({"keys": [_shown(key) for key in await runtime.keys.list_all()]})

    @routes.post("/keys", status_code=201, openapi_extra=body_of(NewKey))
    async def create_key(request: Request) -> Response:
        """Make a key. `key` of the answer is shown this once."""
        asked = validated(NewKey, await read_object(request, runtime.config.server))
        detail = {"tenant": asked.tenant, "scopes": [scope.value for scope in asked.scopes]}
        async with act(runtime, request, "keys.create", asked.name, detail):
            made, clear = await runtime.keys.create(asked.name, asked.tenant, asked.scopes)
        return json_response({**_shown(made), "key": clear}, 201)

    @routes.delete("/keys/{key_id}")
    async def revoke_key(request: Request, key_id: KeyId) -> Response:
        """End a key: calls that show it are refused within seconds."""
        async with act(runtime, request, "keys.revoke", str(key_id)):
            if not await runtime.keys.revoke(key_id):
                raise Refused(
                    f"no valid key {key_id}; GET /admin/keys lists them",
                    status=404,
                    code="key_not_found",
                    param="key_id",
                )
        return json_response({"id": key_id, "revoked": True})

    @routes.get("/audit")
    async def audit(
        before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Who changed what, newest first; `next` goes into `before`."""
        entries = await list_audit(runtime.engine, limit=limit, before=before)
        following = entries[-1].id if len(entries) == limit else None
        return json_response({"audit": entries, "next": following})

    return routes


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(scope.value for scope in key.scopes),
        "hint": key.hint,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
