"""Spread replays over processes that share one large object."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Thread pools of the linear algebra library only get in the way of one process per core.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def spread(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Iterable[Item],
    jobs: int,
    on_result: Callable[[], None] = lambda: None,
) -> list[Result]:
    """``function(shared, item)`` for every item, in order, over ``jobs`` processes.

    With one job all is done in this process. Otherwise ``function`` must be importable and
    everything picklable; ``shared`` is sent to each process once. on_result is called after
    each result.
    """
    results: list[Result] = []
    if jobs == 1:
        for item in items:
            results.append(function(shared, item))
            on_result()
        return results
    with _pool(function, shared, jobs) as pool:
        for result in pool.map(_call, items):
            results.append(result)
            on_result()
    return results


_held: tuple[Callable[[Any, Any], Any], Any] | None = None


def _hold(function: Callable[[Any, Any], Any], shared: Any) -> None:
    global _held
    _held = (function, shared)


def _call(item: Any) -> Any:
    assert _held is not None
    function, shared = _held
    return function(shared, item)


@contextmanager
def _pool(
    function: Callable[[Any, Any], Any], shared: Any, jobs: int
) -> Iterator[ProcessPoolExecutor]:
    """Processes with single-threaded linear algebra; spawned, since Polars' threads do not
    survive a fork."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        with ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_hold,
            initargs=(function, shared),
        ) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
