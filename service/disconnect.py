"""Noticing that the caller went away while a model still works for him."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive

from service.closing import Closing


async def caller_leaves(receive: Receive) -> None:
    """Returns when the connection is closed; only once the request's body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class watching:  # noqa: N801 - read as the context manager that it is
    """A task that is done when the caller has left, and cancelled when the service closes; it
    ends with the block."""

    def __init__(self, receive: Receive, closing: Closing) -> None:
        self._gone = asyncio.create_task(caller_leaves(receive), name="caller-leaves")
        closing.watch(self._gone)

    async def __aenter__(self) -> asyncio.Task[None]:
        return self._gone

    async def __aexit__(self, *_: object) -> None:
        await end(self._gone)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, whatever becomes of it."""
    if not task.done():
        task.cancel()
        await first_of(task)
    if not task.cancelled():
        # Looked at, so that asyncio does not report an error that nobody wanted any more.
        task.exception()


async def first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of them is done.

    What ``asyncio.wait`` does, without its sets of what is done and what is not: four of these
    stand in every request.
    """
    if any(task.done() for task in tasks):
        return
    woken = asyncio.get_running_loop().create_future()

    def wake(_: asyncio.Task[Any]) -> None:
        if not woken.done():
            woken.set_result(None)

    for task in tasks:
        task.add_done_callback(wake)
    try:
        await woken
    finally:
        for task in tasks:
            task.remove_done_callback(wake)
