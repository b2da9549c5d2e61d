"""Read a log in pieces of fixed size, so that a file gives the very numbers that memory does.

Every sum is taken block by block and the blocks' sums in order. Blocks begin at multiples of
their size whatever the pieces are that a reader hands over, so the rounding is the same too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bandit_router.errors import DataError
from bandit_router.ope.rounds import LoggedRounds, joined

BLOCK_ROUNDS = 16_384

# A log that can be read several times: each call gives its pieces anew, in order.
Source = Callable[[], Iterable[LoggedRounds]]


@dataclass(frozen=True, slots=True)
class Block:
    """One block and where it lies: ``start`` counts rounds from the log's beginning."""

    index: int
    start: int
    rounds: LoggedRounds

    @property
    def positions(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """(m,) place of each round in the log."""
        return np.arange(self.start, self.start + len(self.rounds), dtype=np.int64)


def source_of(log: LoggedRounds | Source) -> Source:
    """A log in memory as one that is read in pieces."""
    if isinstance(log, LoggedRounds):
        rounds = log
        return lambda: (rounds,)
    return log


def fixed_blocks(source: Source) -> Iterator[Block]:
    """The log in blocks of ``BLOCK_ROUNDS``, the last one shorter; each in memory of its own.

    Raises DataError where the pieces are out of order or there is no round at all.
    """
    parts: list[LoggedRounds] = []
    held = start = 0
    last: int | None = None
    for piece in source():
        taken = 0
        while taken < len(piece):
            part = piece.rows(slice(taken, taken + BLOCK_ROUNDS - held))
            taken += len(part)
            held += len(part)
            parts.append(part)
            if held == BLOCK_ROUNDS:
                yield _block(start, parts, last)
                last = int(part.order[-1])
                start, parts, held = start + held, [], 0
    if held:
        yield _block(start, parts, last)
    if held == start == 0:
        raise DataError("the log has no rounds: there is nothing to evaluate")


def _block(start: int, parts: list[LoggedRounds], last: int | None) -> Block:
    rounds = joined(parts)
    if last is not None and rounds.order[0] < last:
        raise DataError(
            f"pieces of one log must come in order: {rounds.order[0]} follows {last}; sort the log"
        )
    return Block(start // BLOCK_ROUNDS, start, rounds)
