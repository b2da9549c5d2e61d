"""What a service and the processes it started keep in memory, and whether that grows."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from bandit_router.errors import DemoError


def python_memory_mb(process_id: int) -> list[float]:
    """Resident memory of a process and of those below it that run the same interpreter, the
    process itself first; its Postgres is none of them. Raises DemoError where it has died, or
    there is no /proc."""
    with contextlib.suppress(OSError):
        program = _program_of(process_id)
        return [
            _resident_mb(found)
            for found in (process_id, *_below(process_id))
            if _program_of(found) == program
        ]
    raise DemoError(f"process {process_id} has ended, or there is no /proc; run this on Linux")


def growth_over_half(samples_mb: Sequence[float]) -> float:
    """Share by which memory grows from the half of a run to its end, by the Theil-Sen line
    through the samples of that half: the passing peak of a fit moves it little, a step that
    stays does. At least three samples."""
    half = samples_mb[len(samples_mb) // 2 :]
    slopes = [
        (half[later] - half[earlier]) / (later - earlier)
        for earlier, later in combinations(range(len(half)), 2)
    ]
    return statistics.median(slopes) * (len(half) - 1) / statistics.median(half)


def _below(process_id: int) -> Iterator[int]:
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _program_of(process_id: int) -> str:
    # A process of another user, as Postgres's may be, does not tell.
    with contextlib.suppress(PermissionError):
        return str(Path(f"/proc/{process_id}/exe").readlink())
    return ""


def _resident_mb(process_id: int) -> float:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
