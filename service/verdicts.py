"""What checks say of answers, on its way into the log as feedback."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from bandit_router.cascade import Finding, Verdict
from bandit_router.config_cascade import CHECK_METRIC, CHECK_SOURCE
from bandit_router.errors import RouterError
from bandit_router.protocols import Clock, FeedbackStore
from bandit_router.types import Feedback

log = logging.getLogger(__name__)


class Verdicts:
    """Stores verdicts beside whatever comes next, and runs what is to be checked later."""

    def __init__(self, feedback: FeedbackStore, clock: Clock) -> None:
        self._feedback = feedback
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def teach(self, decision_id: UUID, finding: Finding) -> None:
        """Let the learner know of a verdict; a check that could not be made says nothing.

        The decision must be durable already.
        """
        if finding.verdict is not Verdict.UNKNOWN:
            self.later(asyncio.create_task(self._store(decision_id, finding), name="verdict"))

    def later(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, within_s: float) -> None:
        """Wait for what is under way; what comes too late is given up."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            log.error("%d verdicts of checks could not be stored in time", len(late))
            await asyncio.wait(late)

    async def _store(self, decision_id: UUID, finding: Finding) -> None:
        signal = Feedback(
            decision_id=decision_id,
            metric=CHECK_METRIC,
            value=1.0 if finding.verdict is Verdict.PASSED else 0.0,
            received_at=self._clock.now(),
            source=CHECK_SOURCE,
            comment=finding.reason or None,
            tags={"check": finding.check} if finding.check else {},
        )
        try:
            await self._feedback.record_feedback(signal)
        except RouterError as error:
            log.warning("the verdict on decision %s is lost: %s", decision_id, error)
