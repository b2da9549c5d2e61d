"""An act and its line in the audit log, whoever does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import ConfigError, RouterError
from bandit_router.store.audit import append_audit
from service.errors import Refused


@asynccontextmanager
async def audited(
    engine: AsyncEngine, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Do in the block what the audit log says: no act without its line, which is written first.

    An act that fails gets a second line, ``<action>.failed``, with the reason.
    """

    async def write(what: str, more: Mapping[str, Any]) -> None:
        await append_audit(
            engine, actor=actor, action=what, subject=subject, detail={**detail, **more}
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
