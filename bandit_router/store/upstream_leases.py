"""Slices of a model's rate limit, leased to replicas so that together they keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.store.engine import store_errors

LEASE_S = 5.0
# A slice may be used until its lease ends, and a call may take a moment to arrive, so it counts
# for a minute from then.
ARRIVAL_S = 1.0
WINDOW_S = 60.0 + LEASE_S + ARRIVAL_S

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('upstream_leases:' || :model, 0))")
GIVE_BACK = text(
    "UPDATE upstream_leases SET requests = requests - :requests, tokens = tokens - :tokens "
    "WHERE id = :id"
)
FORGET = text(
    "DELETE FROM upstream_leases "
    "WHERE model = :model AND granted_at < clock_timestamp() - make_interval(secs => :window_s)"
)
USED = text(
    "SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(tokens), 0) AS tokens "
    "FROM upstream_leases WHERE model = :model"
)
GRANT = text(
    "INSERT INTO upstream_leases (model, granted_at, requests, tokens) "
    "VALUES (:model, clock_timestamp(), :requests, :tokens) RETURNING id"
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A granted slice."""

    id: int
    requests: int
    tokens: int


async def give_back(engine: AsyncEngine, lease_id: int, requests: int, tokens: int) -> None:
    """Return what was not used of a lease; negative tokens charge what it was overdrawn by."""
    with store_errors(engine):
        async with engine.begin() as connection:
            await connection.execute(
                GIVE_BACK, {"id": lease_id, "requests": requests, "tokens": tokens}
            )


async def lease(
    engine: AsyncEngine,
    model: str,
    requests: int,
    tokens: int,
    per_minute: Sequence[int],
) -> Lease | None:
    """Lease up to so many requests and tokens for LEASE_S; None where nothing is left.

    per_minute: the limits (requests, tokens) that all leases of the last minute together keep.
    Raises StoreUnavailable without a database.
    """
    with store_errors(engine):
        async with engine.begin() as connection:
            return await _lease(connection, model, requests, tokens, per_minute)


async def _lease(
    connection: AsyncConnection,
    model: str,
    requests: int,
    tokens: int,
    per_minute: Sequence[int],
) -> Lease | None:
    await connection.execute(LOCK, {"model": model})
    await connection.execute(FORGET, {"model": model, "window_s": WINDOW_S})
    used = (await connection.execute(USED, {"model": model})).one()
    granted_requests = min(requests, per_minute[0] - int(used.requests))
    granted_tokens = min(tokens, per_minute[1] - int(used.tokens))
    if granted_requests <= 0 or granted_tokens <= 0:
        return None
    values = {"model": model, "requests": granted_requests, "tokens": granted_tokens}
    lease_id = (await connection.execute(GRANT, values)).scalar_one()
    return Lease(int(lease_id), granted_requests, granted_tokens)
