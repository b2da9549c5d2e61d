"""What the learner reads and writes: its input in order of ingestion, and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.errors import SnapshotError, StoreError
from bandit_router.protocols import LearnerBatch, SnapshotRecord
from bandit_router.store.engine import store_errors
from bandit_router.store.rows import decision_from_row, unpack_features
from bandit_router.store.tables import decisions, snapshots
from bandit_router.types import Decision, Observation

SNAPSHOTS_CHANNEL = "bandit_router_snapshots"
Cursor = tuple[int, int]
START: Cursor = (0, 0)

# A transaction that began earlier may commit later. Rows at or above the oldest running
# transaction are left for next time, so that none is ever passed over. A transaction that
# stays open for long, in any database of the server, holds the learner back.
SETTLED = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

# A decision that an operator took out of learning, by going back to an earlier snapshot.
EXCLUDED = (
    "EXISTS (SELECT FROM learning_exclusions e WHERE e.lifted_at IS NULL "
    "AND d.seq BETWEEN e.first_seq AND e.last_seq)"
)

ROWS = text(
    f"""
    SELECT r.xid, r.seq AS row_seq, r.decision_id, r.arm, r.reward, r.previous_reward,
           r.weight, r.previous_weight, r.cost_usd, r.latency_s, r.first_token_s,
           r.output_tokens, r.failed, d.seq, d.features, d.input_tokens, d.extractor_version,
           d.tenant
    FROM rewards r LEFT JOIN decisions d ON d.id = r.decision_id AND NOT {EXCLUDED}
    WHERE (r.xid, r.seq) > (:after_xid, :after_seq)
      AND (r.xid, r.seq) <= (:upto_xid, :upto_seq) AND r.xid < {SETTLED}
    ORDER BY r.xid, r.seq LIMIT :limit
    """
)
LAST_SETTLED = text(
    f"SELECT xid, seq FROM rewards WHERE xid < {SETTLED} ORDER BY xid DESC, seq DESC LIMIT 1"
)
# The newest decisions of which something was known at a place in the log, and what it was.
# The arm is that of the last row: a reward moves to the model that answered, and stays there.
# Rows of failed calls alone are about models that did not answer.
FINAL = text(
    f"""
    SELECT d.seq, d.id AS decision_id, known.arm, known.reward, known.weight, known.cost_usd,
           known.latency_s, known.first_token_s, known.output_tokens, d.features, d.input_tokens,
           d.extractor_version, d.tenant
    FROM (SELECT id, seq, features, input_tokens, extractor_version, tenant
          FROM decisions d WHERE NOT {EXCLUDED} ORDER BY id DESC LIMIT :limit) d
    CROSS JOIN LATERAL (
        SELECT (array_agg(r.arm ORDER BY r.seq DESC))[1] AS arm,
               (array_agg(r.reward ORDER BY r.seq DESC)
                FILTER (WHERE r.reward IS NOT NULL OR r.previous_reward IS NOT NULL))[1] AS reward,
               (array_agg(r.weight ORDER BY r.seq DESC)
                FILTER (WHERE r.reward IS NOT NULL))[1] AS weight,
               max(r.cost_usd) AS cost_usd, max(r.latency_s) AS latency_s,
               max(r.first_token_s) AS first_token_s,
               max(r.output_tokens) AS output_tokens
        FROM rewards r
        WHERE r.decision_id = d.id AND (r.xid, r.seq) <= (:upto_xid, :upto_seq)
          AND (r.failed IS NULL OR r.latency_s IS NOT NULL)
    ) known
    WHERE known.arm IS NOT NULL
    ORDER BY d.seq
    """
)
LEFT_OUT = text(
    f"SELECT seq FROM decisions d WHERE NOT {EXCLUDED} ORDER BY id DESC OFFSET :limit LIMIT 1"
)
# Older snapshots are thinned to one a day; the newest full one (not a fold) that the kept
# ones build on stays, so that each can be folded again from the log.
THIN = text(
    """
    WITH kept AS (
        SELECT version FROM snapshots WHERE policy = :policy ORDER BY version DESC LIMIT :keep
    ), oldest AS (SELECT min(version) AS version FROM kept)
    DELETE FROM snapshots s USING oldest
    WHERE s.policy = :policy AND s.version < oldest.version
      AND s.version <> coalesce(
          (SELECT max(version) FROM snapshots f WHERE f.policy = :policy
           AND f.version <= oldest.version AND f.reason <> 'fold'), -1)
      AND EXISTS (SELECT FROM snapshots later WHERE later.policy = :policy
          AND later.version > s.version AND later.version < oldest.version
          AND (later.created_at AT TIME ZONE 'UTC')::date
            = (s.created_at AT TIME ZONE 'UTC')::date)
    """
)
ENDLESS: Cursor = (2**63 - 1, 2**63 - 1)


class PostgresLearnerStore:
    """Implements ``LearnerStore``, and what a re-fit from the log needs besides."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def latest_snapshot(
        self, policy: str, *, known: int | None = None
    ) -> SnapshotRecord | None:
        """The newest snapshot of a policy, None when it has none, or when that is ``known``:
        half a megabyte is not read again to see that nothing is new."""
        newest = (
            select(func.max(snapshots.c.version))
            .where(snapshots.c.policy == policy)
            .scalar_subquery()
        )
        query = select(snapshots).where(snapshots.c.policy == policy, snapshots.c.version == newest)
        if known is not None:
            query = query.where(snapshots.c.version != known)
        return await self._one_snapshot(query)

    async def snapshot(self, policy: str, version: int) -> SnapshotRecord | None:
        """One snapshot of a policy, None when there is none, or no longer."""
        return await self._one_snapshot(
            select(snapshots).where(snapshots.c.policy == policy, snapshots.c.version == version)
        )

    async def write_snapshot(self, record: SnapshotRecord) -> None:
        """Store a snapshot and tell every replica its version.

        Raises SnapshotError when the policy has this version already: another learner is at
        work.
        """
        with store_errors(self._engine):
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(insert(snapshots).values(snapshot_values(record)))
                    await connection.execute(
                        text("SELECT pg_notify(:channel, :version)"),
                        {
                            "channel": SNAPSHOTS_CHANNEL,
                            "version": f"{record.version} {record.policy}",
                        },
                    )
            except IntegrityError as error:
                raise SnapshotError(
                    f"policy '{record.policy}' has a snapshot {record.version} already: another "
                    "learner wrote it; read the newest one and fold on from there"
                ) from error

    async def thin_snapshots(self, policy: str, keep: int) -> int:
        """Keep the newest ``keep``, and of the older ones the last of each day.

        Whatever full state (not a ``fold``) the kept ones build on stays too. Returns how many
        went.
        """
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                return (await connection.execute(THIN, {"policy": policy, "keep": keep})).rowcount

    async def learner_rows(self, after: Cursor, limit: int) -> LearnerBatch:
        """Settled rows after a cursor, oldest first; rows of dropped decisions are passed over.

        Raises StoreError when the cursor lies beyond the server's transactions.
        """
        batch = await self._rows(after, ENDLESS, limit)
        if batch.cursor == after:
            await self._check_not_beyond(after)
        return batch

    async def rows_between(self, after: Cursor, upto: Cursor) -> Sequence[Observation]:
        """The rows after one cursor up to and including another, oldest first."""
        return (await self._rows(after, upto, None)).observations

    async def refit_rows(self, limit: int, upto: Cursor | None = None) -> LearnerBatch:
        """The newest decisions with what is finally known of each, oldest first.

        upto: the cursor at which to look; the end of the settled log by default. The batch's
        cursor is that place: folding the rows after it onto a fit of these gives the present.
        """
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                if upto is None:
                    last = (await connection.execute(LAST_SETTLED)).one_or_none()
                    upto = (last.xid, last.seq) if last else START
                at = {"limit": limit, "upto_xid": upto[0], "upto_seq": upto[1]}
                found = (await connection.execute(FINAL, at)).mappings().all()
                left_out = await connection.scalar(LEFT_OUT, {"limit": limit})
        since = 0 if left_out is None else left_out + 1
        return LearnerBatch([_observation(row) for row in found], upto, since)

    async def decision(self, decision_id: UUID) -> Decision | None:
        """One decision as it was recorded, None when the log does not have it."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(
                    select(decisions).where(decisions.c.id == decision_id)
                )
                row = found.mappings().one_or_none()
        return None if row is None else decision_from_row(row)

    async def _rows(self, after: Cursor, upto: Cursor, limit: int | None) -> LearnerBatch:
        places = {
            "after_xid": after[0],
            "after_seq": after[1],
            "upto_xid": upto[0],
            "upto_seq": upto[1],
            "limit": limit,
        }
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = (await connection.execute(ROWS, places)).mappings().all()
        cursor = (found[-1]["xid"], found[-1]["row_seq"]) if found else after
        kept = [_observation(row) for row in found if row["seq"] is not None]
        return LearnerBatch(kept, cursor)

    async def _check_not_beyond(self, cursor: Cursor) -> None:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                settled = int(await connection.scalar(text(f"SELECT {SETTLED}")) or 0)
        if cursor[0] > settled:
            raise StoreError(
                f"the learner has read up to transaction {cursor[0]} and the server is at "
                f"{settled}: the database was restored from a dump into a new server; advance "
                f"its counter with pg_resetwal -x {cursor[0] + 1} while it is stopped"
            )

    async def _one_snapshot(self, query: Any) -> SnapshotRecord | None:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return SnapshotRecord(
            version=row.version,
            created_at=row.created_at,
            policy=row.policy,
            extractor_version=row.extractor_version,
            cursor=(row.cursor_xid, row.cursor_seq),
            reason=row.reason,
            payload=row.payload,
        )


def _observation(row: Mapping[Any, Any]) -> Observation:
    return Observation(
        decision_seq=row["seq"],
        decision_id=row["decision_id"],
        arm=row["arm"],
        features=unpack_features(row["features"]).astype(np.float64),
        input_tokens=row["input_tokens"],
        reward=row["reward"],
        previous_reward=row.get("previous_reward"),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        output_tokens=row["output_tokens"],
        extractor_version=row["extractor_version"],
        weight=1.0 if row["weight"] is None else row["weight"],
        previous_weight=row.get("previous_weight", 1.0),
        first_token_s=row["first_token_s"],
        tenant=row["tenant"],
        failed=row.get("failed"),
    )


def snapshot_values(record: SnapshotRecord) -> dict[str, Any]:
    """The columns of one snapshot."""
    return {
        "policy": record.policy,
        "version": record.version,
        "created_at": record.created_at,
        "extractor_version": record.extractor_version,
        "cursor_xid": record.cursor[0],
        "cursor_seq": record.cursor[1],
        "reason": record.reason,
        "payload": record.payload,
    }
