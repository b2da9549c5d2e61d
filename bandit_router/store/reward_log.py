"""The learner's append-only input: who writes it locks the decision it speaks of.

Two facts make a decision's rewards: the last value of every metric, and the model that
answered. Whoever learns one of them takes the lock, reads what the log so far says, and
appends the difference; so the sum of (reward − previous_reward) over a decision's rows is
its final reward on the arm it belongs to, in whatever order the facts came.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bandit_router.store.tables import rewards
from bandit_router.types import Reward

REWARDS_CHANNEL = "bandit_router_rewards"


@dataclass(frozen=True, slots=True)
class Credit:
    """What the log says of a decision: the arm that holds its reward, None where none does."""

    arm: str
    reward: Reward | None


def by_ids(statement: str) -> Any:
    """A statement with one parameter ``ids``, an array of decision ids."""
    return text(statement).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


# In the order of ids, so that two groups that share decisions wait instead of deadlocking.
LOCK = by_ids("SELECT id, chosen FROM decisions WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
CREDITS = by_ids(
    "SELECT DISTINCT ON (decision_id) decision_id, arm, reward, weight FROM rewards "
    "WHERE decision_id = ANY(:ids) AND (reward IS NOT NULL OR previous_reward IS NOT NULL) "
    "ORDER BY decision_id, seq DESC"
)
TENANTS = by_ids("SELECT id, tenant FROM decisions WHERE id = ANY(:ids)")
ANSWERED = by_ids("SELECT decision_id, answered_by FROM outcomes WHERE decision_id = ANY(:ids)")


async def lock_decisions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, str]:
    """Lock decisions until the transaction ends; gives the chosen arm of those that exist."""
    found = await connection.execute(LOCK, {"ids": list(ids)})
    return {row.id: row.chosen for row in found}


async def tenants_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, str]:
    """Whose decisions these are."""
    found = await connection.execute(TENANTS, {"ids": list(ids)})
    return {row.id: row.tenant for row in found}


async def credits_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Credit]:
    """What the log so far says of locked decisions."""
    found = await connection.execute(CREDITS, {"ids": list(ids)})
    return {
        row.decision_id: Credit(
            row.arm, None if row.reward is None else Reward(row.reward, row.weight)
        )
        for row in found
    }


async def answers_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, str | None]:
    """The answering model of those decisions whose outcome is known."""
    found = await connection.execute(ANSWERED, {"ids": list(ids)})
    return {row.decision_id: row.answered_by for row in found}


def learner_row(
    decision_id: UUID,
    arm: str,
    *,
    reward: Reward | None = None,
    previous_reward: Reward | None = None,
    cost_usd: float | None = None,
    latency_s: float | None = None,
    first_token_s: float | None = None,
    output_tokens: int | None = None,
    failed: bool | None = None,
) -> dict[str, Any]:
    """The columns of one learner row."""
    return {
        "decision_id": decision_id,
        "arm": arm,
        "reward": None if reward is None else reward.value,
        "previous_reward": None if previous_reward is None else previous_reward.value,
        "weight": 1.0 if reward is None else reward.weight,
        "previous_weight": 1.0 if previous_reward is None else previous_reward.weight,
        "cost_usd": cost_usd,
        "latency_s": latency_s,
        "first_token_s": first_token_s,
        "output_tokens": output_tokens,
        "failed": failed,
    }


async def append(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Append learner rows in this order, and wake the learner when the transaction commits."""
    if not rows:
        return
    await connection.execute(insert(rewards), rows)
    await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": REWARDS_CHANNEL})
