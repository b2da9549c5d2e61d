"""Group commit: many callers, one writer, one transaction for whatever has queued up meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

from bandit_router.errors import RouterError, StoreError, StoreUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

# Three seconds in all: longer than a restart of Postgres, shorter than a caller's patience.
RETRY_DELAYS_S = (0.05, 0.1, 0.2, 0.4, 0.75, 1.5)


class GroupWriter(Generic[Item, Result]):
    """A bounded queue and one task that writes what is in it, a group at a time.

    write: stores a group in one transaction and returns one result per item, in order; an
    error in place of a result goes to that item's caller alone. When it raises
    StoreUnavailable the group is tried again after each of retry_delays_s; on any other error
    the group is split until the rows at fault stand alone, so that neighbours are stored.
    spacing_s: the least time from the beginning of one group to that of the next: under load,
    groups grow and each row costs less. eager: it is kept only after a group of several, so
    that a lone caller, one request after the other, never waits.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | RouterError]]],
        *,
        queue_limit: int = 10_000,
        group_limit: int = 500,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        spacing_s: float = 0.0,
        eager: bool = True,
    ) -> None:
        self._write = write
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue(queue_limit)
        self._group_limit = group_limit
        self._retry_delays_s = tuple(retry_delays_s)
        self._spacing_s = spacing_s
        self._eager = eager
        self._task: asyncio.Task[None] | None = None
        self._in_hand = 0
        self._down = False
        self._closed = False

    @property
    def depth(self) -> int:
        """Items handed in and not yet durable."""
        return self._queue.qsize() + self._in_hand

    async def submit(self, item: Item) -> Result:
        """Queue an item and wait until it is durable; waits for room when the queue is full.

        Raises what write gave for this item, StoreError where Postgres refuses it,
        StoreUnavailable when there is no database.
        """
        return await (await self.hand_in(item))

    async def hand_in(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item, waiting for room when the queue is full; the future of ``submit``."""
        if self._closed:
            raise StoreUnavailable("the store is closed: the router is shutting down")
        if self._task is None:
            # It outlives the request that happens to be the first: none of its context is kept.
            self._task = asyncio.create_task(
                self._run(), name="group-writer", context=contextvars.Context()
            )
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        await self._queue.put((item, future))
        return future

    async def flush(self) -> None:
        """Wait until everything handed in so far is durable or refused."""
        await self._queue.join()

    async def close(self) -> None:
        """Take nothing more, write what is queued, end the writer."""
        self._closed = True
        await self.flush()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_s = 0.0
        while True:
            group = [await self._queue.get()]
            if (wait_s := next_s - loop.time()) > 0.0:
                await asyncio.sleep(wait_s)
            begun_s = loop.time()
            while len(group) < self._group_limit and not self._queue.empty():
                group.append(self._queue.get_nowait())
            next_s = begun_s
            if len(group) > 1 or not self._eager:
                next_s += self._spacing_s
            self._in_hand = len(group)
            try:
                await self._settle(group)
            finally:
                self._in_hand = 0
                for _ in group:
                    self._queue.task_done()

    async def _settle(self, group: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write_patiently([item for item, _ in group])
        except StoreUnavailable as error:
            for _, future in group:
                _answer(future, error)
        except Exception as error:  # noqa: BLE001 - a poisoned row may fail in any way at all
            if len(group) > 1:
                middle = len(group) // 2
                await self._settle(group[:middle])
                await self._settle(group[middle:])
            else:
                _answer(group[0][1], _as_router_error(error))
        else:
            for (_, future), result in zip(group, results, strict=True):
                _answer(future, result)

    async def _write_patiently(self, items: Sequence[Item]) -> Sequence[Result | RouterError]:
        # Once the database is known to be down, queued groups fail after one try each.
        delays = () if self._down else self._retry_delays_s
        for delay_s in delays:
            try:
                return await self._write(items)
            except StoreUnavailable:
                await asyncio.sleep(delay_s)
            except StoreError:
                # A lost race for a key, or a deadlock, succeeds the second time.
                if len(items) > 1:
                    raise
                break
        try:
            results = await self._write(items)
        except StoreUnavailable:
            self._down = True
            raise
        self._down = False
        return results


def _as_router_error(error: Exception) -> RouterError:
    if isinstance(error, RouterError):
        return error
    refused = StoreError(f"a row could not be written: {type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused


def _answer(future: asyncio.Future[Result], result: Result | RouterError) -> None:
    # A caller who went away has cancelled his future; his row is stored all the same.
    if future.done():
        return
    if isinstance(result, RouterError):
        future.set_exception(result)
    else:
        future.set_result(result)
