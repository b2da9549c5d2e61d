"""An operator's act: refused where it does not come from his own page, and written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from bandit_router.overlay import overlay_of
from service.admin.entrance import principal_of
from service.audited import audited, refused_config
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
    async with audited(runtime.engine, actor, action, subject, detail or {}):
        yield


async def live_change(runtime: Runtime, request: Request, changes: Mapping[str, Any]) -> None:
    """Store settings and take them up here; other replicas hear of them.

    Raises Refused 409 where the whole would not do, and then nothing is stored.
    """
    with refused_config():
        stored = await runtime.live_settings.read()
        overlay = overlay_of({**stored, **changes})
        runtime.check_fits(runtime.live.would_be(overlay), overlay)
        await runtime.live_settings.write(changes, actor=principal_of(request).name)
        await runtime.live.refresh()
