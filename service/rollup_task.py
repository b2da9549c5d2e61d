"""Keeping the dashboard's sums up with the log, in the background of the process that leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bandit_router.errors import RouterError
from bandit_router.protocols import Clock
from bandit_router.store.rollups import Rollups

EVERY_S = 1.0
THIN_EVERY_S = 600.0
LONGEST_BACKOFF_S = 60.0
log = logging.getLogger(__name__)


async def keep_rollups(rollups: Rollups, clock: Clock, leads: Callable[[], bool]) -> None:
    """Until cancelled. A turn that fails is logged and tried again: sums may lag, never stop.

    leads: whether this process is the one that learns; the others leave the work to it.
    """
    wait_s, thinned_s = EVERY_S, clock.monotonic_s()
    while True:
        await asyncio.sleep(wait_s)
        if not leads():
            continue
        try:
            while (await rollups.step(clock.now())).behind:
                await asyncio.sleep(0.0)
            wait_s = EVERY_S
            if clock.monotonic_s() - thinned_s >= THIN_EVERY_S:
                thinned_s = clock.monotonic_s()
                await rollups.thin(clock.now())
        except RouterError as error:
            wait_s = min(LONGEST_BACKOFF_S, 2.0 * wait_s)
            log.warning("the dashboard's sums wait %.3g s: %s", wait_s, error)
        except Exception:
            wait_s = min(LONGEST_BACKOFF_S, 2.0 * wait_s)
            log.exception("the dashboard's sums could not be moved on")
