"""What the admin doors read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.partitions import ID_SLACK, id_lower_bound
from bandit_router.store.rows import attempt_from_row, decision_from_row, outcome_from_row
from bandit_router.store.tables import attempts, decisions, feedback, outcomes, rewards
from bandit_router.types import Attempt, Decision, Feedback, Outcome


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """One stored signal: its number in the history, the signal, and what it did then."""

    id: int
    feedback: Feedback
    state: str


@dataclass(frozen=True, slots=True)
class RewardEntry:
    """One learner row of a decision, in the order of ingestion."""

    cursor: tuple[int, int]
    created_at: datetime
    arm: str
    reward: float | None
    previous_reward: float | None
    cost_usd: float | None
    latency_s: float | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class DecisionDetail:
    """All that the log has of one decision. outcome is None while it is unknown."""

    seq: int
    decision: Decision
    outcome: Outcome | None
    attempts: tuple[Attempt, ...]
    feedback: tuple[FeedbackEntry, ...]
    rewards: tuple[RewardEntry, ...]

    @property
    def reward(self) -> float | None:
        """The reward as it now stands."""
        told = [
            row.reward
            for row in self.rewards
            if row.reward is not None or row.previous_reward is not None
        ]
        return told[-1] if told else None


@dataclass(frozen=True, slots=True)
class ArmPulls:
    """How often an arm was chosen since a time, when last, and what its answers cost.

    cost_usd sums over known outcomes of decisions that chose it.
    """

    arm: str
    pulls: int
    last_pull_at: datetime
    cost_usd: float


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """A snapshot without its payload."""

    policy: str
    version: int
    created_at: datetime
    extractor_version: str
    cursor: tuple[int, int]
    reason: str
    payload_bytes: int


# Ids rise with time: the bound on id leaves whole days out, the one on created_at is exact.
SINCE = "d.id >= :low AND d.created_at >= :since"
PULLS = text(
    f"""
    SELECT d.chosen AS arm, count(*) AS pulls, max(d.created_at) AS last_pull_at,
           coalesce(sum(o.cost_usd), 0) AS cost_usd
    FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id
    WHERE {SINCE} GROUP BY d.chosen ORDER BY d.chosen
    """
)
LOOKS = text(
    f"""
    SELECT coalesce(sum(o.cost_usd), 0) FROM decisions d
    JOIN outcomes o ON o.decision_id = d.id
    WHERE {SINCE} AND d.look_arm >= 0 AND d.look_probability < 1
      AND d.chosen = d.arms[d.look_arm + 1]
    """
)
UNKNOWN = text(
    f"""
    SELECT count(*) FROM decisions d
    WHERE {SINCE} AND d.created_at < :before
      AND NOT EXISTS (SELECT FROM outcomes o WHERE o.decision_id = d.id)
    """
)
# Whose decisions the sender might speak of is not kept with the signal.
SIGNAL_COLUMNS = tuple(name for name in Feedback.__slots__ if name != "tenant")
SNAPSHOT_COLUMNS = "policy, version, created_at, extractor_version, cursor_xid, cursor_seq, reason"
SNAPSHOTS = text(
    f"SELECT {SNAPSHOT_COLUMNS}, octet_length(payload) AS payload_bytes FROM snapshots "
    "WHERE CAST(:policy AS text) IS NULL OR policy = :policy "
    "ORDER BY created_at DESC, version DESC LIMIT :limit"
)


class InspectionStore:
    """Reads for operators; nothing here is on the hot path."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def decision_detail(self, decision_id: UUID) -> DecisionDetail | None:
        """A decision and everything that followed from it; None when it is unknown."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return await _detail(connection, decision_id)

    async def pulls_since(self, since: datetime) -> tuple[ArmPulls, ...]:
        """Pulls per arm since a time; arms without any are left out."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(PULLS, _since(since))
                return tuple(ArmPulls(**row) for row in found.mappings())

    async def look_cost_usd_since(self, since: datetime) -> float:
        """Dollars spent since a time on decisions where a forced look chose the arm."""
        return float(await self._scalar(LOOKS, _since(since)))

    async def unknown_outcomes(self, since: datetime, before: datetime) -> int:
        """Decisions made from one time up to another whose outcome is not known."""
        return int(await self._scalar(UNKNOWN, {**_since(since), "before": before}))

    async def snapshots(
        self, policy: str | None = None, *, limit: int = 100
    ) -> tuple[SnapshotSummary, ...]:
        """Snapshots of a policy, or of all, newest first."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(SNAPSHOTS, {"policy": policy, "limit": limit})
                return tuple(
                    SnapshotSummary(
                        policy=row.policy,
                        version=row.version,
                        created_at=row.created_at,
                        extractor_version=row.extractor_version,
                        cursor=(row.cursor_xid, row.cursor_seq),
                        reason=row.reason,
                        payload_bytes=row.payload_bytes,
                    )
                    for row in found
                )

    async def _scalar(self, query: Any, parameters: dict[str, Any]) -> Any:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return await connection.scalar(query, parameters)


def _since(since: datetime) -> dict[str, Any]:
    return {"low": id_lower_bound(since - ID_SLACK), "since": since}


async def _detail(connection: AsyncConnection, decision_id: UUID) -> DecisionDetail | None:
    async def rows(table: Any, *order: Any) -> Any:
        key = table.c.id if table is decisions else table.c.decision_id
        found = await connection.execute(select(table).where(key == decision_id).order_by(*order))
        return found.mappings().all()

    made = await rows(decisions)
    if not made:
        return None
    ended = await rows(outcomes)
    return DecisionDetail(
        seq=made[0]["seq"],
        decision=decision_from_row(made[0]),
        outcome=outcome_from_row(ended[0]) if ended else None,
        attempts=tuple(attempt_from_row(r) for r in await rows(attempts, attempts.c.position)),
        feedback=tuple(_feedback_entry(r) for r in await rows(feedback, feedback.c.id)),
        rewards=tuple(_reward_entry(r) for r in await rows(rewards, rewards.c.seq)),
    )


def _feedback_entry(row: Any) -> FeedbackEntry:
    signal = Feedback(**{name: row[name] for name in SIGNAL_COLUMNS})
    return FeedbackEntry(row["id"], signal, row["state"])


def _reward_entry(row: Any) -> RewardEntry:
    values = {name: row[name] for name in RewardEntry.__slots__ if name != "cursor"}
    return RewardEntry(cursor=(row["xid"], row["seq"]), **values)
