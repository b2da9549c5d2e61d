"""The learner in the background: leads where it can, follows where another leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bandit_router.errors import RouterError, SnapshotError, StoreUnavailable
from bandit_router.learner import Learner
from bandit_router.protocols import Clock
from bandit_router.serving import Serving
from bandit_router.store.leadership import LeaderLock
from bandit_router.store.learner_store import SNAPSHOTS_CHANNEL, PostgresLearnerStore
from bandit_router.store.notifications import Notifications
from service.memory import give_back

# How often a follower asks for the lock, and a leader whether he still has it.
LEADERSHIP_S = 1.0
THIN_EVERY_SNAPSHOTS = 50
# After a turn the learner rests three times as long, so that requests have the most of a core.
REST = 3.0
FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 10.0
log = logging.getLogger(__name__)


class LearnerTask:
    """Folds the log while this process holds the lock, and hands every new state on.

    lock: None where this process only ever follows. serve: takes a new state into use; None
    where nobody here needs one. Errors are logged and tried again with growing waits: learning
    may stand still, routing never.
    """

    def __init__(
        self,
        learner: Learner,
        lock: LeaderLock | None,
        store: PostgresLearnerStore,
        notifications: Notifications,
        serve: Callable[[Serving], None] | None,
        clock: Clock,
        *,
        policy: str,
        interval_s: float,
        snapshots_kept: int,
    ) -> None:
        self._learner = learner
        self._lock = lock
        self._store = store
        self._notifications = notifications
        self._serve = serve
        self._clock = clock
        self._policy = policy
        self._interval_s = interval_s
        self._snapshots_kept = snapshots_kept
        self._heard_rewards = asyncio.Event()
        self._heard_snapshot = asyncio.Event()
        self._unthinned = 0
        self._newest = 0
        self.leads = False
        self.last_error: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        listening = asyncio.create_task(self._listen(), name="learner-ear")
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                try:
                    await self._lead_or_follow()
                    backoff_s = FIRST_BACKOFF_S
                    continue
                except StoreUnavailable as error:
                    self._note(error)
                    log.warning("learning waits for the database: %s", error)
                except Exception as error:
                    self._note(error)
                    log.exception("learning failed; trying again in %.3g s", backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(LONGEST_BACKOFF_S, 2.0 * backoff_s)
        finally:
            self.leads = False
            listening.cancel()
            await asyncio.wait([listening])

    def wake(self) -> None:
        """Take a turn at once: the models or the budget are others."""
        self._heard_rewards.set()
        self._heard_snapshot.set()

    def _note(self, error: Exception) -> None:
        self.leads = False
        self.last_error = f"{type(error).__name__}: {error}"

    async def _listen(self) -> None:
        async for heard in self._notifications:
            if heard.channel == SNAPSHOTS_CHANNEL:
                version, _, policy = heard.payload.partition(" ")
                # Every connect says nothing; a leader hears himself too.
                if policy in ("", self._policy):
                    self._newest = max(self._newest, int(version or 0))
                    self._heard_snapshot.set()
            else:
                self._heard_rewards.set()

    async def _lead_or_follow(self) -> None:
        if self._lock is not None and await self._lock.acquire():
            await self._lead(self._lock)
        else:
            await self._follow()

    async def _follow(self) -> None:
        """Take up what the leader wrote; return now and then to ask for the lock."""
        self._heard_snapshot.clear()
        if self._serve is not None:
            self._serve(await self._learner.load())
            self.last_error = None
            await _heard(self._heard_snapshot, LEADERSHIP_S)
        else:
            self.last_error = None
            await asyncio.sleep(LEADERSHIP_S)

    async def _lead(self, lock: LeaderLock) -> None:
        self._hand_on(await self._learner.take_over())
        self.leads = True
        log.info("this process learns, from snapshot %d on", self._learner.progress.version)
        checked_s = self._clock.monotonic_s()
        while True:
            self._heard_rewards.clear()
            if self._newest > self._learner.progress.version:
                # An operator went back to an earlier state, which is the newest one now.
                self._hand_on(await self._learner.take_over())
            begun_s, fitted_at = self._clock.monotonic_s(), self._learner.progress.rewards_at_refit
            if await self._step():
                self._hand_on(self._learner.serving)
                await self._thin()
                if self._learner.progress.rewards_at_refit != fitted_at:
                    await asyncio.to_thread(give_back)
                # Rows that come meanwhile are folded together: a snapshot each would be waste.
                took_s = self._clock.monotonic_s() - begun_s
                await asyncio.sleep(max(self._interval_s, REST * took_s))
            else:
                await _heard(self._heard_rewards, LEADERSHIP_S)
            self.last_error = None
            if self._clock.monotonic_s() - checked_s >= LEADERSHIP_S:
                checked_s = self._clock.monotonic_s()
                if not await lock.held():
                    self.leads = False
                    log.warning("the learner's lock is lost; asking for it again")
                    return

    def _hand_on(self, serving: Serving) -> None:
        if self._serve is not None:
            self._serve(serving)

    async def _step(self) -> bool:
        """One turn of the fold; True when a new snapshot serves."""
        try:
            return await self._learner.step()
        except SnapshotError:
            # Somebody else wrote this version: an operator went back meanwhile.
            await self._learner.take_over()
            return True

    async def _thin(self) -> None:
        self._unthinned += 1
        if self._unthinned < THIN_EVERY_SNAPSHOTS:
            return
        self._unthinned = 0
        try:
            await self._store.thin_snapshots(self._policy, self._snapshots_kept)
        except RouterError as error:
            log.warning("old snapshots could not be thinned: %s", error)


async def _heard(event: asyncio.Event, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return
