"""A progress bar on standard error for commands of several stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Stages = tuple[Callable[[str, int], None], Callable[..., None]]


@contextmanager
def stages() -> Iterator[Stages]:
    """Two functions: begin a stage by name and number of steps, and advance it (by one)."""
    errors = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    ) as progress:

        def on_stage(name: str, total: int) -> None:
            progress.add_task(name, total=total)

        def on_step(steps: int = 1) -> None:
            progress.advance(progress.task_ids[-1], steps)

        yield on_stage, on_step
