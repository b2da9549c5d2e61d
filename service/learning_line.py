"""One learned state in this process: its learner, the lock for who leads, and what it hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import StoreUnavailable
from bandit_router.learner import Learner
from bandit_router.protocols import Clock
from bandit_router.serving import Serving
from bandit_router.store.leadership import LEARNER_LOCK, LeaderLock
from bandit_router.store.learner_store import SNAPSHOTS_CHANNEL, PostgresLearnerStore
from bandit_router.store.notifications import Notifications
from bandit_router.store.reward_log import REWARDS_CHANNEL
from service.learner_standing import Role, Standing
from service.learner_task import LearnerTask

CHALLENGER_LOCK = LEARNER_LOCK + 1
RETRY_S = 0.5
log = logging.getLogger(__name__)


class LearningLine:
    """Folds the log into one line of snapshots, or follows whoever does, until it is stopped.

    name: the line's. serve: takes a new state into use; None where nobody here needs one.
    lock_key: one leader per key among all replicas; None where this process only follows.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        store: PostgresLearnerStore,
        learner: Learner,
        serve: Callable[[Serving], None] | None,
        clock: Clock,
        *,
        name: str,
        interval_s: float,
        snapshots_kept: int,
        lock_key: int | None = LEARNER_LOCK,
    ) -> None:
        self.name = name
        self.learner = learner
        self._lock = None if lock_key is None else LeaderLock(engine, lock_key)
        channels = (SNAPSHOTS_CHANNEL, *([] if lock_key is None else [REWARDS_CHANNEL]))
        self._notifications = Notifications(engine, channels)
        self._running: asyncio.Task[None] | None = None
        self.task = LearnerTask(
            learner,
            self._lock,
            store,
            self._notifications,
            serve,
            clock,
            policy=name,
            interval_s=interval_s,
            snapshots_kept=snapshots_kept,
        )

    @property
    def standing(self) -> Standing:
        """Where this learner stands."""
        return Standing(
            role=Role.LEADS if self.task.leads else Role.FOLLOWS,
            last_error=self.task.last_error,
            progress=self.learner.progress,
            quarantine=tuple(self.learner.quarantine),
        )

    def start(self) -> None:
        """Begin, in the background; a database that is away is waited for."""
        self._running = asyncio.create_task(self._run(), name=f"learner of {self.name}")

    async def stop(self) -> None:
        """End, and give the lock up; a second call does nothing."""
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        await asyncio.wait([running])
        await self._notifications.close()
        if self._lock is not None:
            await self._lock.release()

    async def _run(self) -> None:
        while True:
            try:
                await self._notifications.start()
                break
            except StoreUnavailable as error:
                log.warning("learning waits for the database: %s", error)
                await asyncio.sleep(RETRY_S)
        await self.task.run()
