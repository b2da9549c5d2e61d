"""A stream that has begun: pieces on their way to the caller, and the book kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bandit_router.attempts import AttemptLog, OpenAttempt
from bandit_router.errors import ProviderError
from bandit_router.protocols import StreamPiece
from bandit_router.types import Attempt, Outcome


class OpenStream:
    """A stream whose first piece is already here; iterating never changes the model.

    A piece with data b"" only carries usage and is not for the caller. A break raises
    ProviderError out of the iteration. ``attempts`` and ``outcome`` are final after the end,
    the error or ``aclose``; the consumer must close the stream when it leaves early, which
    closes the upstream connection too.
    """

    def __init__(
        self,
        first: StreamPiece,
        pieces: AsyncIterator[StreamPiece],
        attempt: OpenAttempt,
        log: AttemptLog,
    ) -> None:
        self.model = attempt.model.name
        self._first: StreamPiece | None = first
        self._pieces = pieces
        self._attempt = attempt
        self._log = log

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self._log.attempts

    def outcome(self) -> Outcome:
        """How the decision ended so far; call it after the end of the stream."""
        return self._log.outcome()

    def __aiter__(self) -> OpenStream:
        return self

    async def __anext__(self) -> StreamPiece:
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._attempt.succeed()
            raise
        except ProviderError as error:
            self._attempt.fail(error)
            raise
        except asyncio.CancelledError:
            self._attempt.cancel()
            raise
        self._attempt.see(piece)
        return piece

    async def aclose(self) -> None:
        """Leave the stream; before its end this cancels the upstream call."""
        self._first = None
        self._attempt.cancel()
        await close_pieces(self._pieces)


async def close_pieces(pieces: AsyncIterator[StreamPiece]) -> None:
    """Close a provider's stream, and with it the upstream connection."""
    # Provider.stream promises an iterator; generators also have a connection to close.
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        await aclose()
