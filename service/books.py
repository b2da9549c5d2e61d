"""Decisions and outcomes on their way into the log, and whether the log can be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from bandit_router.errors import RouterError, StoreUnavailable
from bandit_router.open_stream import ModelStream
from bandit_router.protocols import DecisionLog
from bandit_router.types import Attempt, Decision, Outcome
from service.admission import Admission
from service.log_lines import current_decision
from service.metrics import Metrics

# A database that refuses is known sooner; this is for one that hangs.
DECISION_PATIENCE_S = 10.0
OUTCOME_RETRY_S = 1.0
# With the log's own patience of three seconds a try, several minutes without a database.
OUTCOME_TRIES = 100
# Beyond this many outcomes in waiting, new ones are tried once: memory is finite too.
MOST_PATIENT = 20_000
log = logging.getLogger(__name__)


class Books:
    """Enters decisions before their answers leave, and outcomes right after."""

    def __init__(
        self,
        decision_log: DecisionLog,
        admission: Admission | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._log = decision_log
        self._admission = admission
        self._metrics = metrics
        self._decisions: set[asyncio.Task[None]] = set()
        self._outcomes: set[asyncio.Task[None]] = set()
        self.store_answers = True

    def enter(self, decision: Decision) -> asyncio.Task[None]:
        """Begin to store a decision; the task is done once it is durable.

        The task raises StoreUnavailable without a database, or StoreError.
        """
        current_decision.set(decision.id)
        if self._metrics is not None:
            self._metrics.decided(decision)
        task = asyncio.create_task(self._enter(decision), name="decision")
        self._decisions.add(task)
        task.add_done_callback(self._entered)
        return task

    def _entered(self, task: asyncio.Task[None]) -> None:
        self._decisions.discard(task)
        # Looked at, for the case that the caller has left and nobody else will.
        if not task.cancelled():
            task.exception()

    async def _enter(self, decision: Decision) -> None:
        try:
            await self._record(decision)
        except StoreUnavailable as error:
            if self.store_answers:
                log.warning("decisions cannot be stored: %s", error)
            self.store_answers = False
            raise
        if not self.store_answers:
            log.warning("decisions are stored again")
        self.store_answers = True

    async def _record(self, decision: Decision) -> None:
        try:
            async with asyncio.timeout(DECISION_PATIENCE_S):
                await self._log.record_decision(decision)
        except TimeoutError:
            raise StoreUnavailable(
                f"the database took longer than {DECISION_PATIENCE_S:g} s to store a decision"
            ) from None

    def close(self, outcome: Outcome, attempts: Sequence[Attempt]) -> None:
        """Store an outcome beside whatever comes next; a database that is away is waited for."""
        if self._admission is not None:
            self._admission.close(outcome, attempts)
        if self._metrics is not None:
            self._metrics.ended(outcome, attempts)
        task = asyncio.create_task(self._close(outcome, attempts), name="outcome")
        self._outcomes.add(task)
        task.add_done_callback(self._outcomes.discard)

    def close_stream(self, stream: ModelStream) -> None:
        """Store the outcome of a stream that is over."""
        self.close(stream.outcome(), stream.attempts)

    async def settle(self, within_s: float) -> None:
        """Wait for the outcomes under way; those that cannot be stored in time are given up,
        and their decisions stand as outcome unknown."""
        if not self._outcomes:
            return
        _, late = await asyncio.wait(self._outcomes, timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            log.error("%d outcomes could not be stored in time", len(late))
            await asyncio.wait(late)

    async def _close(self, outcome: Outcome, attempts: Sequence[Attempt]) -> None:
        tries = OUTCOME_TRIES if len(self._outcomes) <= MOST_PATIENT else 1
        for _ in range(tries):
            try:
                await self._log.record_outcome(outcome, attempts)
            except StoreUnavailable:
                await asyncio.sleep(OUTCOME_RETRY_S)
            except RouterError as error:
                log.error("the outcome of decision %s is lost: %s", outcome.decision_id, error)
                return
            else:
                return
        log.error("the outcome of decision %s is lost: no database", outcome.decision_id)
