"""Reservations: booked before a call, settled after it, the same for every replica.

The counters are rows in Postgres, locked in one order by whoever books. Claims of concurrent
requests share a transaction, and each is held against all that were booked before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Double, Text, Uuid, bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.errors import LimitExceeded
from bandit_router.limits import (
    LONGEST,
    Bound,
    Claim,
    Headroom,
    Usage,
    Window,
    exceeded,
    headroom,
    seconds_left,
    span_start,
)
from bandit_router.store.engine import store_errors
from bandit_router.store.group_writer import GroupWriter
from bandit_router.store.tables import reservations

WINDOW_ARRAYS = (
    bindparam("subjects", type_=ARRAY(Text)),
    bindparam("spans", type_=ARRAY(Text)),
    bindparam("starts", type_=ARRAY(DateTime(timezone=True))),
)
# Makes the rows that are missing, and locks and reads them all, in the order of their keys.
LOCK = text(
    """
    INSERT INTO limit_windows AS w (subject, span, starts_at, requests, tokens, cost_usd)
    SELECT subject, span, starts_at, 0, 0, 0
    FROM unnest(:subjects, :spans, :starts) AS asked(subject, span, starts_at)
    ORDER BY 1, 2, 3
    ON CONFLICT (subject, span, starts_at) DO UPDATE SET requests = w.requests
    RETURNING subject, span, starts_at, requests, tokens, cost_usd
    """
).bindparams(*WINDOW_ARRAYS)
BOOK = text(
    """
    UPDATE limit_windows w SET requests = n.requests, tokens = n.tokens, cost_usd = n.cost_usd
    FROM unnest(:subjects, :spans, :starts, :requests, :tokens, :costs)
         AS n(subject, span, starts_at, requests, tokens, cost_usd)
    WHERE w.subject = n.subject AND w.span = n.span AND w.starts_at = n.starts_at
    """
).bindparams(
    *WINDOW_ARRAYS,
    bindparam("requests", type_=ARRAY(BigInteger)),
    bindparam("tokens", type_=ARRAY(BigInteger)),
    bindparam("costs", type_=ARRAY(Double)),
)
BOOKED = text(
    "SELECT w.* FROM limit_windows w "
    "JOIN unnest(:subjects, :spans, :starts) AS asked(subject, span, starts_at) "
    "USING (subject, span, starts_at)"
).bindparams(*WINDOW_ARRAYS)
OPEN = text(
    "SELECT decision_id, created_at, booked, tokens, cost_usd FROM reservations "
    "WHERE decision_id = ANY(:ids) AND settled_at IS NULL ORDER BY decision_id FOR UPDATE"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
MADE = text("SELECT decision_id FROM reservations WHERE decision_id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Uuid))
)
SETTLE = text(
    """
    UPDATE reservations r SET settled_at = :now, tokens = n.tokens, cost_usd = n.cost_usd
    FROM unnest(:ids, :tokens, :costs) AS n(decision_id, tokens, cost_usd)
    WHERE r.decision_id = n.decision_id
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("tokens", type_=ARRAY(BigInteger)),
    bindparam("costs", type_=ARRAY(Double)),
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a call took in the end; None keeps what was reserved, where nobody knows."""

    decision_id: UUID
    at: datetime
    tokens: int | None
    cost_usd: float | None


Item = Claim | Settlement


class LimitStore:
    """Books and settles. Close it before the engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer: GroupWriter[Item, tuple[Headroom, ...]] = GroupWriter(self._write)

    async def reserve(self, claim: Claim) -> tuple[Headroom, ...]:
        """Book a claim; returns what its caller has left. Raises LimitExceeded where it does not
        fit, StoreError, or StoreUnavailable without a database: then nothing may be called."""
        return await self._writer.submit(claim)

    async def settle(self, settlement: Settlement) -> None:
        """Replace what was reserved by what it took; without an open reservation nothing."""
        await self._writer.submit(settlement)

    async def booked(self, windows: Sequence[Window]) -> dict[Window, Usage]:
        """What is booked in each window now, without holding anybody up. Raises StoreError, or
        StoreUnavailable without a database."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(BOOKED, _asked(windows))
                rows = found.all()
        known = {
            Window(row.subject, row.span, row.starts_at): Usage(
                row.requests, row.tokens, row.cost_usd
            )
            for row in rows
        }
        return {window: known.get(window, Usage()) for window in windows}

    async def close(self) -> None:
        """Write what is queued, then take nothing more."""
        await self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write(self, group: Sequence[Item]) -> list[LimitExceeded | tuple[Headroom, ...]]:
        claims = [item for item in group if isinstance(item, Claim)]
        ends = {item.decision_id: item for item in group if isinstance(item, Settlement)}
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                opened = await _open(connection, ends)
                # After a connection lost at commit the group comes again: booked is booked.
                made = await _made(connection, [claim.decision_id for claim in claims])
                windows = {window for claim in claims for window in claim.windows}
                for row in opened:
                    windows |= set(_windows_of(row))
                usage = await _locked(connection, sorted(windows))
                before = dict(usage)
                settled = [_settled(row, ends[row.decision_id], usage) for row in opened]
                refused: dict[int, Bound | None] = {}
                left: dict[int, tuple[Headroom, ...]] = {}
                for claim in claims:
                    refused[id(claim)] = _booked(claim, usage, made)
                    left[id(claim)] = headroom(claim, usage)
                fresh = [c for c in claims if refused[id(c)] is None and c.decision_id not in made]
                if fresh:
                    await connection.execute(insert(reservations), [_row(c) for c in fresh])
                if settled:
                    await _settle(connection, settled, max(end.at for end in ends.values()))
                changed = {w: now for w, now in usage.items() if now != before[w]}
                if changed:
                    await connection.execute(BOOK, _columns(changed))
        return [_result(refused.get(id(item)), item, left.get(id(item), ())) for item in group]


async def prune_limits(engine: AsyncEngine, now: datetime) -> None:
    """Drop windows and reservations that no limit can ask about any more."""
    with store_errors(engine):
        async with engine.begin() as connection:
            for table, column in (("limit_windows", "starts_at"), ("reservations", "created_at")):
                await connection.execute(
                    text(f"DELETE FROM {table} WHERE {column} < :before"),
                    {"before": now - LONGEST},
                )


async def _locked(connection: AsyncConnection, windows: Sequence[Window]) -> dict[Window, Usage]:
    if not windows:
        return {}
    return {
        Window(row.subject, row.span, row.starts_at): Usage(row.requests, row.tokens, row.cost_usd)
        for row in await connection.execute(LOCK, _asked(windows))
    }


def _asked(windows: Sequence[Window]) -> dict[str, Any]:
    return {
        "subjects": [window.subject for window in windows],
        "spans": [window.span for window in windows],
        "starts": [window.starts_at for window in windows],
    }


async def _open(connection: AsyncConnection, ends: dict[UUID, Settlement]) -> Sequence[Any]:
    if not ends:
        return ()
    return (await connection.execute(OPEN, {"ids": list(ends)})).all()


async def _made(connection: AsyncConnection, ids: Sequence[UUID]) -> set[UUID]:
    if not ids:
        return set()
    return set(await connection.scalars(MADE, {"ids": list(ids)}))


def _booked(claim: Claim, usage: dict[Window, Usage], made: set[UUID]) -> Bound | None:
    """Book a claim into the counters, or say which bound it does not fit under."""
    if claim.decision_id in made:
        return None
    bound = exceeded(claim, usage)
    if bound is None:
        for window in claim.windows:
            usage[window] = usage[window].plus(1, claim.tokens, claim.cost_usd)
    return bound


def _settled(row: Any, end: Settlement, usage: dict[Window, Usage]) -> tuple[UUID, int, float]:
    tokens = row.tokens if end.tokens is None else end.tokens
    cost_usd = row.cost_usd if end.cost_usd is None else end.cost_usd
    for window in _windows_of(row):
        usage[window] = usage[window].plus(0, tokens - row.tokens, cost_usd - row.cost_usd)
    return row.decision_id, tokens, cost_usd


async def _settle(
    connection: AsyncConnection, settled: Sequence[tuple[UUID, int, float]], now: datetime
) -> None:
    ids, tokens, costs = zip(*settled, strict=True)
    values = {"ids": list(ids), "tokens": list(tokens), "costs": list(costs), "now": now}
    await connection.execute(SETTLE, values)


def _windows_of(row: Any) -> list[Window]:
    pairs = zip(row.booked[::2], row.booked[1::2], strict=True)
    return [Window(subject, span, span_start(span, row.created_at)) for subject, span in pairs]


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "decision_id": claim.decision_id,
        "created_at": claim.at,
        "booked": [part for pair in claim.booked_in for part in pair],
        "tokens": claim.tokens,
        "cost_usd": claim.cost_usd,
    }


def _columns(usage: dict[Window, Usage]) -> dict[str, Any]:
    return {
        "subjects": [window.subject for window in usage],
        "spans": [window.span for window in usage],
        "starts": [window.starts_at for window in usage],
        "requests": [booked.requests for booked in usage.values()],
        "tokens": [booked.tokens for booked in usage.values()],
        "costs": [booked.cost_usd for booked in usage.values()],
    }


def _result(
    bound: Bound | None, item: Item, left: tuple[Headroom, ...]
) -> LimitExceeded | tuple[Headroom, ...]:
    if bound is None:
        return left
    who, _, name = bound.subject.partition(":")
    if bound.span == "session":
        return LimitExceeded(
            f"the ${bound.most:g} that session '{name}' may cost are used up; begin a new session, "
            "or ask the operator to raise it",
            what=bound.what,
            retry_after_s=seconds_left(bound.span, item.at),
            headroom=left,
        )
    what = f"${bound.most:g}" if bound.what == "usd" else f"{bound.most:g} {bound.what}"
    left_s = seconds_left(bound.span, item.at)
    return LimitExceeded(
        f"the limit of {what} per {bound.span} of {who} '{name}' is used up; it begins anew in "
        f"{math.ceil(left_s)} s, or ask the operator to raise it",
        what=bound.what,
        retry_after_s=left_s,
        headroom=left,
    )
