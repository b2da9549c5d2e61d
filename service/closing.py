"""The moment at which a service that is being stopped waits no longer."""

from __future__ import annotations

import asyncio
from typing import Any


class Closing:
    """Ends the waiting of every request under way, at once, when ``end`` is called.

    A request lets its watch be cancelled in place of waiting for a shared future: that would
    cost each request as much as there are others.
    """

    def __init__(self) -> None:
        self._watches: set[asyncio.Task[Any]] = set()
        self._over = False

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Cancel this task at the end, if it still runs."""
        if self._over:
            task.cancel()
            return
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    def end(self) -> None:
        """Wait no longer."""
        self._over = True
        for task in list(self._watches):
            task.cancel()
