"""What a group of signals changes: worked out on one page under its decisions' locks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bandit_router.errors import IdempotencyConflict, RouterError
from bandit_router.protocols import FeedbackReceipt, OpenLedger, SourceLedger
from bandit_router.store import reward_log
from bandit_router.store.decision_log import unknown_decision
from bandit_router.store.rows import storable
from bandit_router.store.source_table import Verdict, read_ledger, read_verdicts, write_ledger
from bandit_router.store.tables import feedback as feedback_table
from bandit_router.types import Feedback, Reward

Combine = Callable[[Mapping[str, float]], Reward | None]

# Oldest first: what each source said last of each metric.
LAST_VALUES = reward_log.by_ids(
    "SELECT * FROM (SELECT DISTINCT ON (decision_id, metric, source) id, decision_id, metric, "
    "source, value FROM feedback WHERE decision_id = ANY(:ids) "
    "ORDER BY decision_id, metric, source, id DESC) last ORDER BY id"
)
PREDICTED = reward_log.by_ids(
    "SELECT id, arms, predicted_quality FROM decisions WHERE id = ANY(:ids)"
)
USED_KEYS = text(
    "SELECT id, source, idempotency_key, body_sha256, decision_id FROM feedback "
    "JOIN unnest(:sources, :keys) AS asked(asked_source, asked_key) "
    "ON source = asked_source AND idempotency_key = asked_key"
).bindparams(bindparam("sources", type_=ARRAY(Text)), bindparam("keys", type_=ARRAY(Text)))
NEXT_IDS = text(
    "SELECT nextval(pg_get_serial_sequence('feedback', 'id')) FROM generate_series(1, :count)"
)


class FeedbackPage:
    """Everything known of a group's locked decisions, and the rows that the group adds."""

    def __init__(
        self,
        combine: Combine,
        ledger: SourceLedger | None,
        verdicts: Mapping[str, Verdict],
        chosen: dict[UUID, str],
        answered: dict[UUID, str | None],
        credited: dict[UUID, reward_log.Credit],
        predicted: dict[UUID, dict[str, float]],
        values: dict[UUID, dict[str, dict[str, float | None]]],
    ) -> None:
        self._combine = combine
        self._ledger = ledger
        self._verdicts = verdicts
        self._chosen = chosen
        self._answered = answered
        self._credits = credited
        self._predicted = predicted
        # By decision, metric and source; who spoke last stands last.
        self._values = values
        self._ids: Iterator[int] = iter(())
        self._owners: dict[UUID, str] = {}
        self._keys: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._signals: list[dict[str, Any]] = []
        self._learner_rows: list[dict[str, Any]] = []
        self._now: datetime | None = None

    @classmethod
    async def of(
        cls,
        connection: AsyncConnection,
        ids: Sequence[UUID],
        combine: Combine,
        open_ledger: OpenLedger | None,
        sources: Collection[str] = (),
    ) -> FeedbackPage:
        """Lock the decisions, then read; what is read later cannot change meanwhile."""
        ids = sorted(set(ids))
        chosen = await reward_log.lock_decisions(connection, ids)
        answered = await reward_log.answers_of(connection, ids)
        credited = await reward_log.credits_of(connection, ids)
        values: dict[UUID, dict[str, dict[str, float | None]]] = {}
        spoke = set(sources)
        for row in await connection.execute(LAST_VALUES, {"ids": ids}):
            values.setdefault(row.decision_id, {}).setdefault(row.metric, {})[row.source] = (
                row.value
            )
            spoke.add(row.source)
        if open_ledger is None:
            return cls(combine, None, {}, chosen, answered, credited, {}, values)
        predicted = {
            row.id: dict(zip(row.arms, row.predicted_quality, strict=True))
            for row in await connection.execute(PREDICTED, {"ids": ids})
        }
        verdicts = await read_verdicts(connection)
        ledger = await read_ledger(connection, open_ledger, spoke, verdicts)
        return cls(combine, ledger, verdicts, chosen, answered, credited, predicted, values)

    @classmethod
    async def read(
        cls,
        connection: AsyncConnection,
        group: Sequence[Feedback],
        combine: Combine,
        open_ledger: OpenLedger | None,
    ) -> FeedbackPage:
        """The page of a group of signals."""
        ids = [signal.decision_id for signal in group]
        sources = {signal.source for signal in group}
        page = await cls.of(connection, ids, combine, open_ledger, sources)
        page._ids = iter(list(await connection.scalars(NEXT_IDS, {"count": len(group)})))
        page._owners = await reward_log.tenants_of(connection, ids)
        page._now = max(signal.received_at for signal in group)
        keyed = [signal for signal in group if signal.idempotency_key is not None]
        if keyed:
            asked = {
                "sources": [signal.source for signal in keyed],
                "keys": [_scoped_key(signal) for signal in keyed],
            }
            for row in await connection.execute(USED_KEYS, asked):
                page._keys[row.source, row.idempotency_key] = (row.id, row.body_sha256)
        return page

    @property
    def unsettled(self) -> list[str]:
        """Sources whose earlier signals do not follow the verdict on them yet."""
        fresh = [] if self._ledger is None else list(self._ledger.verdicts)
        return [*fresh, *(name for name, told in self._verdicts.items() if not told.settled)]

    def enter(self, signal: Feedback) -> FeedbackReceipt | RouterError:
        """Take one signal in; the receipt, or the error that its caller gets."""
        # Another tenant's decision is as unknown as one that never was.
        owner = self._owners.get(signal.decision_id)
        if owner is not None and signal.tenant not in (None, owner):
            return unknown_decision(signal.decision_id)
        body = _body_digest(signal)
        if signal.idempotency_key is not None:
            used = self._keys.get((signal.source, _scoped_key(signal)))
            if used is not None:
                return self._again(signal, body, *used)
        if signal.decision_id not in self._chosen:
            return unknown_decision(signal.decision_id)
        said = self._values.setdefault(signal.decision_id, {}).setdefault(signal.metric, {})
        state = _state(said, signal)
        self._tell(signal, said.pop(signal.source, None))
        said[signal.source] = signal.value
        feedback_id = next(self._ids)
        if signal.idempotency_key is not None:
            self._keys[signal.source, _scoped_key(signal)] = (feedback_id, body)
        self._signals.append(_feedback_row(signal, feedback_id, state, body))
        reward = self.settle(signal.decision_id)
        return FeedbackReceipt(feedback_id, state, None if reward is None else reward.value)

    def settle(self, decision_id: UUID) -> Reward | None:
        """The decision's reward as it now stands; what differs from the log is appended."""
        reward = self._reward(decision_id)
        if decision_id in self._chosen:
            self._credit(decision_id, reward)
        return reward

    def _arm(self, decision_id: UUID) -> str:
        return self._answered.get(decision_id) or self._chosen[decision_id]

    def _tell(self, signal: Feedback, before: float | None) -> None:
        """Enter what the source says now, instead of before, into the ledger."""
        if self._ledger is None:
            return
        arm = self._arm(signal.decision_id)
        expected = self._predicted[signal.decision_id].get(arm)
        if expected is None:
            return
        for value, count in ((before, -1.0), (signal.value, 1.0)):
            reward = None if value is None else self._combine({signal.metric: value})
            if reward is not None:
                key = (signal.source, signal.metric, arm)
                self._ledger.enter(key, reward.value - expected, count)

    def _residual(self, decision_id: UUID, metric: str, value: float | None) -> float:
        """How far a value is from what was predicted; 0 where either says nothing."""
        expected = self._predicted.get(decision_id, {}).get(self._arm(decision_id))
        reward = None if value is None else self._combine({metric: value})
        return 0.0 if expected is None or reward is None else reward.value - expected

    def _reward(self, decision_id: UUID) -> Reward | None:
        """What the sources that are believed say together, worth what the least believed is."""
        counted: dict[str, float] = {}
        least = 1.0
        for metric, said in self._values.get(decision_id, {}).items():
            for source, value in reversed(said.items()):
                believed = 1.0
                if self._ledger is not None:
                    key = (source, metric, self._arm(decision_id))
                    believed = self._ledger.believed(
                        key, self._residual(decision_id, metric, value)
                    )
                if believed > 0.0:
                    if value is not None:
                        counted[metric] = value
                        least = min(least, believed)
                    break
        reward = self._combine(counted)
        return (
            reward
            if reward is None or least == 1.0
            else replace(reward, weight=reward.weight * least)
        )

    async def write(self, connection: AsyncConnection) -> None:
        """Store what the group added."""
        if self._signals:
            await connection.execute(insert(feedback_table), self._signals)
        await reward_log.append(connection, self._learner_rows)
        if self._ledger is not None and self._now is not None:
            await write_ledger(connection, self._ledger, self._now)

    def _again(
        self, signal: Feedback, body: bytes, feedback_id: int, first_body: bytes
    ) -> FeedbackReceipt | RouterError:
        if body != first_body:
            return IdempotencyConflict(
                f"Idempotency-Key '{signal.idempotency_key}' was used before with another body; "
                "send the same body again, or a new key",
                param="Idempotency-Key",
            )
        reward = self._reward(signal.decision_id)
        return FeedbackReceipt(feedback_id, "duplicate", None if reward is None else reward.value)

    def _credit(self, decision_id: UUID, reward: Reward | None) -> None:
        """Append what differs between the log and the reward as it now stands."""
        arm = self._arm(decision_id)
        known = self._credits.get(decision_id, reward_log.Credit(arm, None))
        if reward == known.reward:
            return
        self._learner_rows.append(
            reward_log.learner_row(decision_id, arm, reward=reward, previous_reward=known.reward)
        )
        self._credits[decision_id] = reward_log.Credit(arm, reward)


def _state(said: Mapping[str, float | None], signal: Feedback) -> str:
    """What the signal is beside the last word on its metric, whoever's that was."""
    last = [None, *said.values()][-1]
    if last == signal.value:
        return "duplicate"
    if signal.value is None:
        return "retracted"
    return "revised" if said else "recorded"


def _scoped_key(signal: Feedback) -> str:
    """The idempotency key as stored: keys of two tenants never meet."""
    key = signal.idempotency_key or ""
    return key if signal.tenant is None else f"{signal.tenant} {key}"


def _body_digest(signal: Feedback) -> bytes:
    body = [str(signal.decision_id), signal.metric, signal.value, signal.comment]
    told = json.dumps([*body, dict(signal.tags)], sort_keys=True)
    return hashlib.sha256(told.encode()).digest()


def _feedback_row(signal: Feedback, feedback_id: int, state: str, body: bytes) -> dict[str, Any]:
    return {
        "id": feedback_id,
        "decision_id": signal.decision_id,
        "metric": signal.metric,
        "value": signal.value,
        "received_at": signal.received_at,
        "source": signal.source,
        "comment": storable(signal.comment),
        "tags": storable(signal.tags),
        "idempotency_key": None if signal.idempotency_key is None else _scoped_key(signal),
        "body_sha256": body,
        "state": state,
    }
