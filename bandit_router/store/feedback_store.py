"""Quality signals: kept as they came, and turned into learner rows in the same transaction.

Of each metric the last value counts, of those whose source is believed. When a source is set
aside, or an operator decides otherwise, the decisions it spoke of are gone through once more.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Self

from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import InvalidFeedback, RouterError
from bandit_router.protocols import FeedbackReceipt, OpenLedger
from bandit_router.store.engine import store_errors
from bandit_router.store.fast_writes import HeldDriver, driver_of
from bandit_router.store.feedback_page import Combine, FeedbackPage
from bandit_router.store.group_writer import RETRY_DELAYS_S, GroupWriter
from bandit_router.store.rows import storable
from bandit_router.types import Feedback

LONGEST_KEY = 256
# Decisions locked together while a verdict is settled: signals of others wait for so many.
SETTLED_TOGETHER = 200
log = logging.getLogger(__name__)

SPOKEN_OF = "SELECT DISTINCT decision_id FROM feedback WHERE source = $1 ORDER BY decision_id"
SETTLED = "UPDATE feedback_verdicts SET settled = true WHERE source = $1"


class PostgresFeedbackStore:
    """Implements ``FeedbackStore``: a signal is durable, and its learner row with it, on return.

    combine: a decision's last values, metric by metric, into its reward, or None.
    open_ledger: opens the books on how far sources are believed; without it all are.
    Signals of concurrent callers share a transaction, one after the other under the lock of
    their decision. Close it before the engine.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        combine: Combine,
        open_ledger: OpenLedger | None = None,
        *,
        queue_limit: int = 10_000,
        group_limit: int = 500,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._engine = engine
        self._combine = combine
        self._open_ledger = open_ledger
        self._held = HeldDriver(engine)
        self._settling: asyncio.Task[None] | None = None
        self._writer: GroupWriter[Feedback, FeedbackReceipt] = GroupWriter(
            self._write,
            queue_limit=queue_limit,
            group_limit=group_limit,
            retry_delays_s=retry_delays_s,
        )

    @property
    def queue_depth(self) -> int:
        """Signals handed in and not yet durable."""
        return self._writer.depth

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """Store one signal and what it changes.

        Raises UnknownDecision, InvalidFeedback, IdempotencyConflict, StoreError, or
        StoreUnavailable without a database.
        """
        _check(feedback)
        return await self._writer.submit(feedback)

    async def flush(self) -> None:
        """Wait until everything handed in so far is durable or refused, and verdicts settled."""
        await self._writer.flush()
        if self._settling is not None:
            await asyncio.wait([self._settling])

    async def close(self) -> None:
        """Write what is queued, then take nothing more."""
        await self._writer.close()
        await self._held.give_back()
        if self._settling is not None:
            await asyncio.wait([self._settling])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write(self, group: Sequence[Feedback]) -> list[FeedbackReceipt | RouterError]:
        with store_errors(self._engine):
            async with self._held.use() as driver, driver.transaction():
                page = await FeedbackPage.read(driver, group, self._combine, self._open_ledger)
                results = [page.enter(signal) for signal in group]
                await page.write(driver)
        if page.unsettled and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle(page.unsettled), name="verdicts")
        return results

    async def _settle(self, sources: Sequence[str]) -> None:
        """Let the rewards that these sources had a part in follow the verdicts on them.

        Cut short, by a lost connection say, it is begun again with the next signal.
        """
        try:
            for source in sources:
                await self._settle_source(source)
        except RouterError as error:
            log.warning("verdicts on sources of feedback wait: %s", error)

    async def _settle_source(self, source: str) -> None:
        with store_errors(self._engine):
            async with driver_of(self._engine) as driver:
                ids = [row["decision_id"] for row in await driver.fetch(SPOKEN_OF, source)]
                for start in range(0, len(ids), SETTLED_TOGETHER):
                    some = ids[start : start + SETTLED_TOGETHER]
                    async with driver.transaction():
                        page = await FeedbackPage.of(driver, some, self._combine, self._open_ledger)
                        for decision_id in some:
                            page.settle(decision_id)
                        await page.write(driver)
                await driver.execute(SETTLED, source)


def _check(feedback: Feedback) -> None:
    value, key = feedback.value, feedback.idempotency_key
    if value is not None and not math.isfinite(value):
        raise InvalidFeedback(
            f"value {value} of metric '{feedback.metric}' is not a finite number", param="value"
        )
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        raise InvalidFeedback(
            f"an Idempotency-Key has 1 to {LONGEST_KEY} characters; this one has {len(key)}",
            param="Idempotency-Key",
        )
    for name in ("metric", "source", "idempotency_key"):
        if (found := getattr(feedback, name)) is not None and storable(found) != found:
            raise InvalidFeedback(f"{name} {found!r} has characters that are no text", param=name)
