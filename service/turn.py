"""One request to a model under way, and the ways in which its answer leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from bandit_router.attempts import AttemptLog
from bandit_router.chain_budget import ChainBudget
from bandit_router.completion import NO_BUDGET, Completed
from bandit_router.open_stream import ModelStream, OpenStream
from bandit_router.store.api_keys import Principal
from bandit_router.types import Decision
from service.answers import json_bytes
from service.body import ClientGone, ShuttingDown
from service.chat_request import ChatRequest
from service.decision_headers import answer_headers, cost_headers
from service.disconnect import end
from service.event_stream import EventStream
from service.runtime import Runtime
from service.transparency import explaining_chunk, explanation

# A stream ends at the chain's deadline; this long after it, the caller has stopped reading.
UNREAD_S = 30.0
Call = asyncio.Task[tuple[Completed | OpenStream, float]]


@dataclass(frozen=True, slots=True)
class Turn:
    """One request under way, and when it began on the monotonic clock."""

    request: Request
    chat: ChatRequest
    begun_s: float
    principal: Principal


async def ask(
    runtime: Runtime,
    chat: ChatRequest,
    names: Sequence[str],
    decision_id: UUID,
    log: AttemptLog,
    budget: ChainBudget = NO_BUDGET,
    deadline_s: float | None = None,
) -> tuple[Completed | OpenStream, float]:
    """The first answer along names, and the seconds that it took."""
    chain, clock = runtime.chain, runtime.clock
    begun_s = clock.monotonic_s()
    call = chain.open_stream if chat.stream else chain.complete
    result = await call(
        names,
        chat.upstream,
        decision_id=decision_id,
        context=chat.routing.metadata,
        operation=chat.routing.operation,
        log=log,
        deadline_s=deadline_s,
        budget=budget,
    )
    return result, clock.monotonic_s() - begun_s


def streamed(
    runtime: Runtime,
    stream: ModelStream,
    headers: dict[str, str],
    overhead_s: float,
    finished: Callable[[ModelStream], None],
    explained_by: Decision | None = None,
) -> Response:
    """A stream on its way to the caller. finished: called once its outcome is final."""

    def why(last: bytes) -> bytes:
        assert explained_by is not None
        return explaining_chunk(last, explanation(explained_by, stream.attempts))

    attempts = len(stream.attempts) + (0 if stream.ended else 1)
    return EventStream(
        stream,
        finished,
        headers={**answer_headers(stream.model, attempts, overhead_s), **headers},
        within_s=runtime.config.fallback.deadline_s + UNREAD_S,
        closing=runtime.closing,
        farewell=None if explained_by is None else why,
    )


def whole(result: Completed, headers: dict[str, str], overhead_s: float) -> Response:
    """A whole answer. headers: stand where the answer's own would say otherwise."""
    outcome, body = result.outcome, result.answer.body
    model = outcome.answered_by or ""
    body["model"] = model
    return Response(
        json_bytes(body),
        media_type="application/json",
        headers={
            **answer_headers(model, outcome.attempts, overhead_s),
            **cost_headers(outcome),
            **headers,
        },
    )


def given_up(gone: asyncio.Task[None]) -> Exception:
    """Why a request's answer is waited for no longer."""
    return ShuttingDown() if gone.cancelled() else ClientGone()


async def abandon(call: Call) -> None:
    """Give a call up, and with it the stream that it may have opened already."""
    await end(call)
    if not call.cancelled() and call.exception() is None:
        result, _ = call.result()
        if isinstance(result, OpenStream):
            await result.aclose()
