"""A stream that has begun: pieces on their way to the caller, and the book kept of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from bandit_router.attempts import AttemptLog, OpenAttempt
from bandit_router.errors import ProviderError
from bandit_router.protocols import StreamPiece
from bandit_router.types import Attempt, AttemptStatus, Outcome


class ModelStream(Protocol):
    """A model's answer in pieces, on its way to the caller. ended: whether all that it led to
    is in ``attempts`` already."""

    @property
    def model(self) -> str: ...
    @property
    def ended(self) -> bool: ...
    @property
    def attempts(self) -> tuple[Attempt, ...]: ...
    def outcome(self) -> Outcome: ...
    def __aiter__(self) -> AsyncIterator[StreamPiece]: ...
    async def aclose(self) -> None: ...


class OpenStream:
    """A stream whose beginning is already here; iterating never changes the model.

    A piece with data b"" only carries usage and is not for the caller. A break raises
    ProviderError out of the iteration. ``attempts`` and ``outcome`` are final after the end,
    the error or ``aclose``; the consumer must close the stream when it leaves early, which
    closes the upstream connection too.
    """

    def __init__(self, beginning: Beginning, log: AttemptLog) -> None:
        self._model = beginning.attempt.model.name
        self._beginning = beginning
        self._attempt = beginning.attempt
        self._log = log

    @property
    def model(self) -> str:
        return self._model

    @property
    def ended(self) -> bool:
        return self._attempt.ended

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self._log.attempts

    def outcome(self) -> Outcome:
        """How the decision ended so far; call it after the end of the stream."""
        return self._log.outcome()

    def __aiter__(self) -> OpenStream:
        return self

    async def __anext__(self) -> StreamPiece:
        try:
            piece = await self._beginning.next_piece()
        except ProviderError as error:
            self._attempt.fail(error)
            raise
        except asyncio.CancelledError:
            self._attempt.cancel()
            raise
        if piece is None:
            self._attempt.succeed()
            raise StopAsyncIteration
        self._log.handed_on = True
        return piece

    async def aclose(self) -> None:
        """Leave the stream; before its end this cancels the upstream call."""
        self._attempt.cancel()
        await self._beginning.aclose()


class HeardStream:
    """A stream of which every piece is remembered, whoever reads it: ``held`` says how much.

    ``hear_out`` reads it to its end first; then it is handed on without waiting.
    """

    def __init__(self, stream: OpenStream) -> None:
        self._stream = stream
        self._at = 0
        self.held: list[StreamPiece] = []

    @property
    def model(self) -> str:
        return self._stream.model

    @property
    def ended(self) -> bool:
        return self._stream.ended

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self._stream.attempts

    def outcome(self) -> Outcome:
        return self._stream.outcome()

    async def hear_out(self) -> None:
        """Read to the end and leave the upstream. Raises ProviderError where the stream breaks."""
        try:
            async for piece in self._stream:
                self.held.append(piece)
        finally:
            await self._stream.aclose()

    def __aiter__(self) -> HeardStream:
        return self

    async def __anext__(self) -> StreamPiece:
        if self._at == len(self.held):
            self.held.append(await anext(self._stream))
        self._at += 1
        return self.held[self._at - 1]

    async def aclose(self) -> None:
        await self._stream.aclose()


class Beginning:
    """A provider's stream, read ahead until it can be relied on."""

    def __init__(self, pieces: AsyncIterator[StreamPiece], attempt: OpenAttempt) -> None:
        self.attempt = attempt
        self._pieces = pieces
        self._held: deque[StreamPiece | None] = deque()
        self._pending: asyncio.Task[StreamPiece | None] | None = None

    async def read_ahead(self, first_within_s: float, hold_s: float) -> None:
        """Wait for the first piece with content, then hold for hold_s more what comes.

        Until this returns another model can still take over. Raises ProviderError and
        TimeoutError as the stream does; then the stream is closed.
        """
        try:
            async with asyncio.timeout(first_within_s):
                while not (self._held and self._begins(self._held[-1])):
                    self._held.append(await self._read())
            if hold_s > 0.0:
                await self._hold(hold_s)
        except BaseException:
            await self.aclose()
            raise
        if self._held[0] is None:
            await self.aclose()
            raise ProviderError(
                f"model '{self.attempt.model.name}' ended its stream before the first piece",
                status=AttemptStatus.STREAM_BROKEN,
                retry=True,
            )

    async def next_piece(self) -> StreamPiece | None:
        """What was held, then what comes; None at the end."""
        if self._held:
            return self._held.popleft()
        if self._pending is not None:
            # Kept until it is done: whoever is cancelled here closes the stream next.
            piece = await self._pending
            self._pending = None
            return piece
        return await self._read()

    async def aclose(self) -> None:
        """Close the stream, and with it the upstream connection."""
        self._held.clear()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProviderError):
                await pending
        # Provider.stream promises an iterator; generators also have a connection to close.
        aclose = getattr(self._pieces, "aclose", None)
        if aclose is not None:
            await aclose()

    async def _hold(self, hold_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + hold_s
        while self._held[-1] is not None and (remaining_s := until - loop.time()) > 0.0:
            # A task, since a generator that is cancelled while it reads is at its end.
            self._pending = asyncio.create_task(self._read(), name="held-piece")
            done, _ = await asyncio.wait({self._pending}, timeout=remaining_s)
            if not done:
                return
            pending, self._pending = self._pending, None
            self._held.append(pending.result())

    async def _read(self) -> StreamPiece | None:
        piece = await anext(self._pieces, None)
        if piece is not None:
            self.attempt.see(piece)
        return piece

    @staticmethod
    def _begins(piece: StreamPiece | None) -> bool:
        return piece is None or piece.content
