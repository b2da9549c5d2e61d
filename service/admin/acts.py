"""An operator's act: refused where it does not come from his own page, and written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from starlette.requests import Request

from bandit_router.errors import ConfigError, RouterError
from bandit_router.overlay import overlay_of
from bandit_router.store.audit import append_audit
from service.admin.entrance import principal_of
from service.errors import Refused
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


@contextmanager
def refused_config() -> Iterator[None]:
    """A configuration that cannot be had is the asker's to mend: 409, with the reason."""
    try:
        yield
    except ConfigError as error:
        raise Refused(str(error), status=409, code="configuration_refused") from error


async def live_change(runtime: Runtime, request: Request, changes: Mapping[str, Any]) -> None:
    """Store settings and take them up here; other replicas hear of them.

    Raises Refused 409 where the whole would not do, and then nothing is stored.
    """
    with refused_config():
        stored = await runtime.live_settings.read()
        overlay = overlay_of({**stored, **changes})
        runtime.check_fits(runtime.live.would_be(overlay))
        await runtime.live_settings.write(changes, actor=principal_of(request).name)
        await runtime.live.refresh()
