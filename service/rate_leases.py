"""Keeps slices of the upstreams' rate limits at hand, beside the requests that use them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import RouterError
from bandit_router.store import upstream_leases
from bandit_router.upstream_limits import Unused, UpstreamLimits

# How often leases are looked at when nobody runs short.
LOOK_S = 0.5
# Between two looks however short we run: a limit that is used up does not come back at once.
AT_MOST_EVERY_S = 0.02
log = logging.getLogger(__name__)


class RateLeases:
    """The task that leases; without limited models it has nothing to do."""

    def __init__(self, engine: AsyncEngine, limits: UpstreamLimits) -> None:
        self._engine = engine
        self._limits = limits
        self._short = asyncio.Event()
        limits.short = self._short.set

    async def run(self) -> None:
        """Until cancelled; a database that is away is asked again."""
        while True:
            self._short.clear()
            try:
                await self.look()
            except RouterError as error:
                log.warning("rate limits wait for the database: %s", error)
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(AT_MOST_EVERY_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._short.wait()
            except TimeoutError:
                # What ended meanwhile is given back, and a slice is kept at hand.
                continue

    async def look(self) -> None:
        """Give back what has ended, and lease what is needed."""
        await self._give_back(self._limits.ended())
        for need in self._limits.needs():
            found = await upstream_leases.lease(
                self._engine, need.model, need.requests, need.tokens, need.per_minute
            )
            if found is not None:
                before = self._limits.lease(
                    need.model, found.id, found.requests, found.tokens, upstream_leases.LEASE_S
                )
                await self._give_back(before)

    async def close(self) -> None:
        """Give everything back."""
        await self._give_back(self._limits.ended(everything=True))

    async def _give_back(self, ended: Sequence[Unused]) -> None:
        for unused in ended:
            await upstream_leases.give_back(
                self._engine, unused.lease_id, unused.requests, unused.tokens
            )
