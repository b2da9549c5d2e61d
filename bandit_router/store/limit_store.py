"""Reservations: booked before a call, settled after it, the same for every replica.

The counters are rows in Postgres, locked in one order by whoever books. Claims of concurrent
requests share a transaction, and each is held against all that were booked before it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncEngine

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
from bandit_router.store.fast_writes import HeldDriver, copy_rows, driver_of
from bandit_router.store.group_writer import GroupWriter
from bandit_router.store.tables import reservations

ASKED = "unnest($1::text[], $2::text[], $3::timestamptz[]) AS asked(subject, span, starts_at)"
# Makes the rows that are missing, and locks and reads them all, in the order of their keys.
LOCK = f"""
INSERT INTO limit_windows AS w (subject, span, starts_at, requests, tokens, cost_usd)
SELECT subject, span, starts_at, 0, 0, 0 FROM {ASKED} ORDER BY 1, 2, 3
ON CONFLICT (subject, span, starts_at) DO UPDATE SET requests = w.requests
RETURNING subject, span, starts_at, requests, tokens, cost_usd
"""
BOOK = """
UPDATE limit_windows w SET requests = n.requests, tokens = n.tokens, cost_usd = n.cost_usd
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::float8[])
     AS n(subject, span, starts_at, requests, tokens, cost_usd)
WHERE w.subject = n.subject AND w.span = n.span AND w.starts_at = n.starts_at
"""
BOOKED = f"""
SELECT w.subject, w.span, w.starts_at, w.requests, w.tokens, w.cost_usd
FROM limit_windows w JOIN {ASKED} USING (subject, span, starts_at)
"""
OPEN = """
SELECT decision_id, created_at, booked, tokens, cost_usd FROM reservations
WHERE decision_id = ANY($1::uuid[]) AND settled_at IS NULL ORDER BY decision_id FOR UPDATE
"""
MADE = "SELECT decision_id FROM reservations WHERE decision_id = ANY($1::uuid[])"
SETTLE = """
UPDATE reservations r SET settled_at = $4, tokens = n.tokens, cost_usd = n.cost_usd
FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS n(decision_id, tokens, cost_usd)
WHERE r.decision_id = n.decision_id
"""


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
        self._held = HeldDriver(engine)
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
            async with driver_of(self._engine) as driver:
                known = _usage_in(await driver.fetch(BOOKED, *_asked(windows)))
        return {window: known.get(window, Usage()) for window in windows}

    async def close(self) -> None:
        """Write what is queued, then take nothing more."""
        await self._writer.close()
        await self._held.give_back()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write(self, group: Sequence[Item]) -> list[LimitExceeded | tuple[Headroom, ...]]:
        claims = [item for item in group if isinstance(item, Claim)]
        ends = {item.decision_id: item for item in group if isinstance(item, Settlement)}
        with store_errors(self._engine):
            async with self._held.use() as driver, driver.transaction():
                opened = await _open(driver, ends)
                # After a connection lost at commit the group comes again: booked is booked.
                made = await _made(driver, [claim.decision_id for claim in claims])
                windows = {window for claim in claims for window in claim.windows}
                for row in opened:
                    windows |= set(_windows_of(row))
                usage = await _locked(driver, sorted(windows))
                before = dict(usage)
                settled = [_settled(row, ends[row["decision_id"]], usage) for row in opened]
                refused: dict[int, Bound | None] = {}
                left: dict[int, tuple[Headroom, ...]] = {}
                for claim in claims:
                    refused[id(claim)] = _booked(claim, usage, made)
                    left[id(claim)] = headroom(claim, usage)
                fresh = [c for c in claims if refused[id(c)] is None and c.decision_id not in made]
                await copy_rows(driver, reservations, [_row(claim) for claim in fresh])
                if settled:
                    ended_at = max(end.at for end in ends.values())
                    await driver.execute(SETTLE, *zip(*settled, strict=True), ended_at)
                changed = {w: now for w, now in usage.items() if now != before[w]}
                if changed:
                    await driver.execute(BOOK, *_asked(list(changed)), *_amounts(changed.values()))
        return [_result(refused.get(id(item)), item, left.get(id(item), ())) for item in group]


async def prune_limits(engine: AsyncEngine, now: datetime) -> None:
    """Drop windows and reservations that no limit can ask about any more."""
    with store_errors(engine):
        async with driver_of(engine) as driver, driver.transaction():
            for table, column in (("limit_windows", "starts_at"), ("reservations", "created_at")):
                await driver.execute(f"DELETE FROM {table} WHERE {column} < $1", now - LONGEST)


async def _locked(driver: asyncpg.Connection, windows: Sequence[Window]) -> dict[Window, Usage]:
    return _usage_in(await driver.fetch(LOCK, *_asked(windows))) if windows else {}


def _usage_in(rows: Iterable[asyncpg.Record]) -> dict[Window, Usage]:
    return {
        Window(subject, span, starts_at): Usage(requests, tokens, cost_usd)
        for subject, span, starts_at, requests, tokens, cost_usd in rows
    }


def _asked(windows: Sequence[Window]) -> tuple[list[Any], ...]:
    return (
        [window.subject for window in windows],
        [window.span for window in windows],
        [window.starts_at for window in windows],
    )


async def _open(
    driver: asyncpg.Connection, ends: dict[UUID, Settlement]
) -> Sequence[asyncpg.Record]:
    return await driver.fetch(OPEN, list(ends)) if ends else ()


async def _made(driver: asyncpg.Connection, ids: Sequence[UUID]) -> set[UUID]:
    return {row["decision_id"] for row in await driver.fetch(MADE, ids)} if ids else set()


def _booked(claim: Claim, usage: dict[Window, Usage], made: set[UUID]) -> Bound | None:
    """Book a claim into the counters, or say which bound it does not fit under."""
    if claim.decision_id in made:
        return None
    bound = exceeded(claim, usage)
    if bound is None:
        for window in claim.windows:
            usage[window] = usage[window].plus(1, claim.tokens, claim.cost_usd)
    return bound


def _settled(
    row: asyncpg.Record, end: Settlement, usage: dict[Window, Usage]
) -> tuple[UUID, int, float]:
    tokens = row["tokens"] if end.tokens is None else end.tokens
    cost_usd = row["cost_usd"] if end.cost_usd is None else end.cost_usd
    for window in _windows_of(row):
        usage[window] = usage[window].plus(0, tokens - row["tokens"], cost_usd - row["cost_usd"])
    return row["decision_id"], tokens, cost_usd


def _windows_of(row: asyncpg.Record) -> list[Window]:
    booked, made_at = row["booked"], row["created_at"]
    pairs = zip(booked[::2], booked[1::2], strict=True)
    return [Window(subject, span, span_start(span, made_at)) for subject, span in pairs]


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "decision_id": claim.decision_id,
        "created_at": claim.at,
        "booked": [part for pair in claim.booked_in for part in pair],
        "tokens": claim.tokens,
        "cost_usd": claim.cost_usd,
    }


def _amounts(usage: Collection[Usage]) -> tuple[list[Any], ...]:
    return (
        [booked.requests for booked in usage],
        [booked.tokens for booked in usage],
        [booked.cost_usd for booked in usage],
    )


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
