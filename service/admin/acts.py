"""An operator's act: refused where it does not come from his own page, and written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from bandit_router.errors import RouterError
from bandit_router.store.audit import append_audit
from service.admin.entrance import principal_of
from service.runtime import Runtime


@asynccontextmanager
async def act(
    runtime: Runtime,
    request: Request,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> AsyncIterator[None]:
    """Do in the block what the audit log says: no act without its line, which is written first.

    An act that fails gets a second line, ``<action>.failed``, with the reason.
    """
    actor = principal_of(request).name

    async def write(what: str, more: Mapping[str, Any]) -> None:
        await append_audit(
            runtime.engine,
            actor=actor,
            action=what,
            subject=subject,
            detail={**(detail or {}), **more},
        )

    await write(action, {})
    try:
        yield
    except RouterError as error:
        await write(f"{action}.failed", {"error": str(error)})
        raise
