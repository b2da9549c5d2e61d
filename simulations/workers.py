"""Spread replays over processes that share one large object."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from bandit_router.errors import DataError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

CLUSTER_TIMEOUT_S = 10.0
# Workers that are there may be busy, or on the far side of a slow line.
SCATTER_TIMEOUT_S = 300.0
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


def finished(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    *,
    jobs: int = 1,
    cluster: str | None = None,
) -> Iterator[tuple[Item, Result]]:
    """``function(shared, item)`` for every item, each as soon as it is done, in any order.

    Over ``jobs`` processes as in ``spread``, or over the workers of the Dask cluster whose
    scheduler is at ``cluster``. Raises DataError where that needs an extra or does not answer.
    """
    if not items:
        return
    if cluster is not None:
        with _dask(cluster) as client:
            # Once to each worker, instead of with every item.
            held = client.scatter(shared, broadcast=True, hash=False, timeout=SCATTER_TIMEOUT_S)
            with client.get_executor(pure=False) as executor:
                yield from _as_done({executor.submit(function, held, item): item for item in items})
    elif jobs == 1:
        for item in items:
            yield item, function(shared, item)
    else:
        with _pool(function, shared, jobs) as pool:
            yield from _as_done({pool.submit(_call, item): item for item in items})


def _as_done(futures: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result]]:
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # After an error or an interrupt nothing new is begun.
        for future in futures:
            future.cancel()


@contextmanager
def _dask(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DataError(
            "--cluster needs the extra cluster: pip install 'bandit-router[cluster]'"
        ) from error
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=CLUSTER_TIMEOUT_S, set_as_default=False
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise DataError(
            f"no Dask scheduler at {address}: {error}; start one with `dask scheduler`, workers "
            "with `dask worker ADDRESS`, and name it as tcp://host:8786"
        ) from error
    with client:
        try:
            # Those that were started a moment ago have not told the scheduler yet.
            client.wait_for_workers(1, timeout=CLUSTER_TIMEOUT_S)
        except TimeoutError as error:
            raise DataError(
                f"the Dask scheduler at {address} has no workers: start some, with "
                f"`dask worker {address}`"
            ) from error
        yield client


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
