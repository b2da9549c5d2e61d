"""Now and then: make tomorrow's partitions, and count what other replicas tried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.activity import ActivityLog
from bandit_router.errors import RouterError
from bandit_router.protocols import Clock
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.limit_store import prune_limits
from bandit_router.store.partitions import ensure_partitions

ACTIVITY_EVERY_S = 300.0
PARTITIONS_EVERY = 12
DAY = timedelta(days=1)
log = logging.getLogger(__name__)


async def restore_activity(
    activity: ActivityLog, store: InspectionStore, arms: Sequence[str], now: datetime
) -> None:
    """Replace the pulls of the last day by what the log says, whichever replica made them."""
    found = {pulls.arm: pulls for pulls in await store.pulls_since(now - DAY)}
    spent_usd = await store.look_cost_usd_since(now - DAY)
    activity.restore(
        now.timestamp(),
        pulls=[found[arm].pulls if arm in found else 0 for arm in arms],
        idle_s=[
            (now - found[arm].last_pull_at).total_seconds() if arm in found else float("inf")
            for arm in arms
        ],
        look_spend_usd=spent_usd,
    )


async def keep_up(
    engine: AsyncEngine,
    watched: Callable[[], tuple[ActivityLog, Sequence[str]]],
    store: InspectionStore,
    clock: Clock,
) -> None:
    """Until cancelled; a turn that fails is logged, and the next one tries again."""
    turn = 0
    while True:
        await asyncio.sleep(ACTIVITY_EVERY_S)
        turn += 1
        try:
            activity, arms = watched()
            await restore_activity(activity, store, arms, clock.now())
            if turn % PARTITIONS_EVERY == 0:
                await ensure_partitions(engine, clock.now())
                await prune_limits(engine, clock.now())
        except RouterError as error:
            log.warning("upkeep waits: %s", error)
        except Exception:
            log.exception("upkeep failed")
