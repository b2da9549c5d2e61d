"""The live configuration: the file and what operators set over it, taken up without a restart.

A change is validated whole before anything moves. Then the parts that decide and call are
swapped in one turn of the loop; requests under way finish on those they began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bandit_router.circuit import settings_of
from bandit_router.config import RouterConfig
from bandit_router.errors import ConfigError, RouterError
from bandit_router.overlay import Overlay, overlaid, overlay_of
from bandit_router.store.live_settings import FILE, LiveSettings
from bandit_router.store.notifications import Notifications

# Whatever is not listed here needs a restart; so does a change of the policy's name, which is
# what challengers are for, and of the breakers, which know what happened under the old rules.
LIVE_SECTIONS = (
    "models",
    "policy",
    "rewards",
    "exploration",
    "fallback",
    "rules",
    "alerts",
    "tiers",
    "workflows",
    "cascades",
    "cache",
    "challengers",
    "limits",
    "tenants",
    "sessions",
)
RETRY_S = 5.0
log = logging.getLogger(__name__)

TakeUp = Callable[[RouterConfig, Overlay], Awaitable[None]]


class LiveConfiguration:
    """Knows the file's configuration and the overlay; hands every new whole to ``take_up``.

    reread: reads the file again, raising ConfigError; None where there is no file.
    """

    def __init__(
        self,
        file: RouterConfig,
        settings: LiveSettings,
        take_up: TakeUp,
        reread: Callable[[], RouterConfig] | None,
    ) -> None:
        self._file = file
        self._settings = settings
        self._take_up = take_up
        self._reread = reread
        self._lock = asyncio.Lock()
        self.overlay = Overlay()
        self.last_error: str | None = None

    async def begin(self) -> RouterConfig:
        """What to start with: the file under what operators set."""
        self.overlay = overlay_of(await self._settings.read())
        return overlaid(self._file, self.overlay)

    def would_be(self, overlay: Overlay) -> RouterConfig:
        """The whole under another overlay. Raises ConfigError where that cannot be."""
        return overlaid(self._file, overlay)

    async def refresh(self) -> None:
        """Take up what operators set, if anything is new."""
        async with self._lock:
            overlay = overlay_of(await self._settings.read())
            if overlay != self.overlay:
                await self._changed(self._file, overlay)

    async def reload(self) -> tuple[str, ...]:
        """Read the file again and take it up; returns the sections that changed.

        Raises ConfigError, and then everything stays as it was.
        """
        if self._reread is None:
            raise ConfigError("this router was started without a file: there is none to read again")
        async with self._lock:
            file = await asyncio.to_thread(self._reread)
            changed = changed_sections(self._file, file)
            if changed:
                await self._changed(file, self.overlay)
            return changed

    async def follow(self, notifications: Notifications) -> None:
        """Until cancelled: do what other replicas were told to do."""
        async for heard in notifications:
            try:
                if heard.payload == FILE:
                    await self.reload()
                else:
                    await self.refresh()
            except RouterError as error:
                self.last_error = str(error)
                log.error("the configuration stays as it was: %s", error)
                await asyncio.sleep(RETRY_S if heard.payload != FILE else 0.0)
            else:
                self.last_error = None

    async def _changed(self, file: RouterConfig, overlay: Overlay) -> None:
        await self._take_up(overlaid(file, overlay), overlay)
        self._file, self.overlay = file, overlay


def changed_sections(old: RouterConfig, new: RouterConfig) -> tuple[str, ...]:
    """The sections that differ. Raises ConfigError where one of them cannot change live."""
    changed = tuple(
        name for name in RouterConfig.model_fields if getattr(old, name) != getattr(new, name)
    )
    fixed = [name for name in changed if name not in LIVE_SECTIONS]
    if old.policy.name != new.policy.name:
        fixed.append("policy.name")
    if old.policy.prior != new.policy.prior:
        fixed.append("policy.prior")
    if old.policy.learned_as != new.policy.learned_as:
        fixed.append("policy.learned_as")
    if settings_of(old.fallback) != settings_of(new.fallback):
        fixed.append("what [fallback] says of breakers")
    if fixed:
        raise ConfigError(
            f"{', '.join(fixed)} cannot change while the router runs: take that change back, or "
            f"restart it. Live are {', '.join(LIVE_SECTIONS)}"
        )
    return changed
