"""The learner's append-only input: who writes it locks the decision it speaks of.

Two facts make a decision's rewards: the last value of every metric, and the model that
answered. Whoever learns one of them takes the lock, reads what the log so far says, and
appends the difference; so the sum of (reward − previous_reward) over a decision's rows is
its final reward on the arm it belongs to, in whatever order the facts came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]

from bandit_router.store.fast_writes import copy_rows
from bandit_router.store.tables import rewards
from bandit_router.types import Reward

REWARDS_CHANNEL = "bandit_router_rewards"
# In the order of ids, so that two groups that share decisions wait instead of deadlocking. What
# else it gives of a decision never changes.
LOCK = """
SELECT id, chosen, tenant, arms, predicted_quality FROM decisions
WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
FACTS = """
SELECT given.id, o.decision_id IS NOT NULL AS ended, o.answered_by, c.arm, c.reward, c.weight
FROM unnest($1::uuid[]) AS given(id)
LEFT JOIN outcomes o ON o.decision_id = given.id
LEFT JOIN LATERAL (
    SELECT arm, reward, weight FROM rewards
    WHERE decision_id = given.id AND (reward IS NOT NULL OR previous_reward IS NOT NULL)
    ORDER BY seq DESC LIMIT 1
) c ON true
"""
NOTIFY = f"NOTIFY {REWARDS_CHANNEL}"


@dataclass(frozen=True, slots=True)
class Credit:
    """What the log says of a decision: the arm that holds its reward, None where none does."""

    arm: str
    reward: Reward | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a decision. ended: whether it has an outcome; answered_by: of that;
    credit: None where no model ever had a reward of it."""

    ended: bool
    answered_by: str | None
    credit: Credit | None


async def lock_decisions(
    driver: asyncpg.Connection, ids: Sequence[UUID]
) -> dict[UUID, asyncpg.Record]:
    """Lock decisions until the transaction ends; gives what was decided, of those that exist.

    A statement of its own: what comes next has to see what others wrote until then.
    """
    return {row["id"]: row for row in await driver.fetch(LOCK, ids)}


async def facts_of(driver: asyncpg.Connection, ids: Sequence[UUID]) -> dict[UUID, Facts]:
    """What the log so far says of locked decisions."""
    return {row["id"]: _facts(row) for row in await driver.fetch(FACTS, ids)}


def _facts(row: asyncpg.Record) -> Facts:
    credit = None
    if row["arm"] is not None:
        reward = None if row["reward"] is None else Reward(row["reward"], row["weight"])
        credit = Credit(row["arm"], reward)
    return Facts(row["ended"], row["answered_by"], credit)


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


async def append(driver: asyncpg.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append learner rows in this order, and wake the learner when the transaction commits."""
    if not rows:
        return
    await copy_rows(driver, rewards, rows)
    await driver.execute(NOTIFY)
