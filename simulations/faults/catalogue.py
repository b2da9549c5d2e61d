"""Every way of failing, and what the router does about it: the table behind docs/failover.md."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from bandit_router.types import AttemptStatus
from simulations.faults.misbehaving import (
    Behaviour,
    Exchange,
    answer,
    delta,
    event,
    failing_stream,
    hang_up,
    refuse,
    respond,
    silence,
    stream_of,
    truncate,
    whole,
)

S = AttemptStatus
FAILED = (502, "all_models_failed")
TOO_LONG = (400, "context_length_exceeded")
FILTERED = (400, "content_filter")
LIMITED = (429, "rate_limit_exceeded")
# Longer than the matrix's patience for a first byte.
LATE_S = 6.0
# Pieces spread over longer than the moment that the router holds a stream's beginning.
SPREAD_PIECES = 6
SPREAD_S = 0.1


@dataclass(frozen=True, slots=True)
class Treatment:
    """What becomes of one failure. calls: with one retry allowed. alone: status and code where
    no other model is in the chain. inside: it comes after the first byte, so that nothing is
    switched and the error goes into the stream. stops: the chain ends there."""

    status: AttemptStatus
    calls: int = 1
    alone: tuple[int, str] = FAILED
    inside: bool = False
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of failing. behaviour: of a listening server; None where ``address`` says why
    nobody can be reached: ``refused`` or ``unknown``; address is ``tls`` for a server that does not
    speak it, ``certificate`` for one whose certificate is bad."""

    name: str
    behaviour: Behaviour | None
    whole: Treatment
    streamed: Treatment
    address: str = ""


def both(whole_one: Behaviour, streamed: Behaviour) -> Behaviour:
    """One behaviour for whole answers, another for streams."""

    async def behaviour(exchange: Exchange) -> None:
        await (streamed if exchange.body.get("stream") else whole_one)(exchange)

    return behaviour


def _alike(name: str, behaviour: Behaviour, treatment: Treatment) -> Fault:
    return Fault(name, behaviour, treatment, treatment)


async def _late(exchange: Exchange) -> None:
    await asyncio.sleep(LATE_S)
    await answer(exchange)


async def _half_then_silence(exchange: Exchange) -> None:
    raw = json.dumps(whole()).encode()
    await exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(raw))})
    await exchange.send(raw[: len(raw) // 2])
    await silence(exchange)


def _spread(then: Behaviour) -> Behaviour:
    pieces = [event(delta("word ")) for _ in range(SPREAD_PIECES)]
    return stream_of(*pieces, then=then, pause_s=SPREAD_S)


async def _error_event(exchange: Exchange) -> None:
    await exchange.chunk(ERROR_EVENT)
    await exchange.send(b"0\r\n\r\n")


ERROR = {"error": {"message": "the engine fell over", "type": "error", "code": None}}
ERROR_EVENT = event(ERROR)
HALF_JSON = json.dumps(whole()).encode()[:40]
INSIDE = Treatment(S.STREAM_BROKEN, inside=True)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "connection refused",
        None,
        Treatment(S.CONNECT_ERROR),
        Treatment(S.CONNECT_ERROR),
        "refused",
    ),
    Fault("DNS failure", None, Treatment(S.CONNECT_ERROR), Treatment(S.CONNECT_ERROR), "unknown"),
    Fault("TLS failure", answer, Treatment(S.CONNECT_ERROR), Treatment(S.CONNECT_ERROR), "tls"),
    Fault(
        "certificate not trusted",
        answer,
        Treatment(S.CONNECT_ERROR),
        Treatment(S.CONNECT_ERROR),
        "certificate",
    ),
    _alike("accepts, then silence", silence, Treatment(S.TIMEOUT)),
    _alike("first byte late", _late, Treatment(S.TIMEOUT)),
    Fault(
        "stalls in mid-stream",
        both(_half_then_silence, _spread(silence)),
        Treatment(S.TIMEOUT),
        Treatment(S.TIMEOUT, inside=True),
    ),
    Fault(
        "cut in mid-stream",
        both(truncate, _spread(hang_up)),
        Treatment(S.BAD_RESPONSE, 2),
        INSIDE,
    ),
    Fault(
        "error in mid-stream",
        both(respond(200, ERROR), _spread(_error_event)),
        Treatment(S.BAD_RESPONSE, 2),
        INSIDE,
    ),
    Fault(
        "dies at once",
        both(hang_up, failing_stream(hang_up)),
        Treatment(S.SERVER_ERROR, 2),
        Treatment(S.STREAM_BROKEN, 2),
    ),
    Fault(
        "truncated JSON",
        both(respond(200, HALF_JSON), stream_of(b"data: " + HALF_JSON + b"\n\n")),
        Treatment(S.BAD_RESPONSE, 2),
        Treatment(S.STREAM_BROKEN, 2),
    ),
    Fault(
        "200 with an error inside",
        both(respond(200, ERROR), stream_of(ERROR_EVENT)),
        Treatment(S.BAD_RESPONSE, 2),
        Treatment(S.STREAM_BROKEN, 2),
    ),
    _alike("401", refuse(401, "invalid_api_key"), Treatment(S.AUTHENTICATION)),
    _alike("403", refuse(403), Treatment(S.AUTHENTICATION)),
    _alike("404", refuse(404, "model_not_found"), Treatment(S.REJECTED)),
    _alike("408", refuse(408), Treatment(S.SERVER_ERROR, 2)),
    _alike("409", refuse(409), Treatment(S.SERVER_ERROR, 2)),
    _alike("413", refuse(413), Treatment(S.CONTEXT_WINDOW, alone=TOO_LONG)),
    _alike("429", refuse(429), Treatment(S.RATE_LIMITED, 2, LIMITED)),
    _alike(
        "429, Retry-After 1", refuse(429, Retry_After="1"), Treatment(S.RATE_LIMITED, 2, LIMITED)
    ),
    _alike(
        "429, Retry-After 3600",
        refuse(429, Retry_After="3600"),
        Treatment(S.RATE_LIMITED, 1, LIMITED),
    ),
    _alike(
        "429, quota spent",
        refuse(429, "insufficient_quota"),
        Treatment(S.RATE_LIMITED, 1, LIMITED),
    ),
    _alike("500", refuse(500), Treatment(S.SERVER_ERROR, 2)),
    _alike("503", refuse(503), Treatment(S.SERVER_ERROR, 2)),
    _alike(
        "context length exceeded",
        refuse(400, "context_length_exceeded"),
        Treatment(S.CONTEXT_WINDOW, alone=TOO_LONG),
    ),
    _alike(
        "content filter",
        refuse(400, "content_filter"),
        Treatment(S.CONTENT_FILTER, alone=FILTERED),
    ),
    _alike(
        "malformed request",
        refuse(400, "invalid_value"),
        Treatment(S.REJECTED, alone=(400, "invalid_value"), stops=True),
    ),
)
