"""Quality signals: kept as they came, and turned into learner rows in the same transaction."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.errors import IdempotencyConflict, InvalidFeedback, RouterError
from bandit_router.protocols import FeedbackReceipt
from bandit_router.store import reward_log
from bandit_router.store.decision_log import unknown_decision
from bandit_router.store.engine import store_errors
from bandit_router.store.group_writer import RETRY_DELAYS_S, GroupWriter
from bandit_router.store.rows import storable
from bandit_router.store.tables import feedback as feedback_table
from bandit_router.types import Feedback, Reward

Combine = Callable[[Mapping[str, float]], Reward | None]
LONGEST_KEY = 256

LAST_VALUES = reward_log.by_ids(
    "SELECT DISTINCT ON (decision_id, metric) decision_id, metric, value FROM feedback "
    "WHERE decision_id = ANY(:ids) ORDER BY decision_id, metric, id DESC"
)
USED_KEYS = text(
    "SELECT id, source, idempotency_key, body_sha256, decision_id FROM feedback "
    "JOIN unnest(:sources, :keys) AS asked(asked_source, asked_key) "
    "ON source = asked_source AND idempotency_key = asked_key"
).bindparams(bindparam("sources", type_=ARRAY(Text)), bindparam("keys", type_=ARRAY(Text)))
NEXT_IDS = text(
    "SELECT nextval(pg_get_serial_sequence('feedback', 'id')) FROM generate_series(1, :count)"
)


class PostgresFeedbackStore:
    """Implements ``FeedbackStore``: a signal is durable, and its learner row with it, on return.

    combine: a decision's last values, metric by metric, into its reward, or None.
    Signals of concurrent callers share a transaction, one after the other under the lock of
    their decision. Close it before the engine.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        combine: Combine,
        *,
        queue_limit: int = 10_000,
        group_limit: int = 500,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._engine = engine
        self._combine = combine
        self._writer: GroupWriter[Feedback, FeedbackReceipt] = GroupWriter(
            self._write,
            queue_limit=queue_limit,
            group_limit=group_limit,
            retry_delays_s=retry_delays_s,
        )

    @property
    def queue_depth(self) -> int:
        """Signals handed in and not yet durable."""
        return self._writer.depth

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """Store one signal and what it changes.

        Raises UnknownDecision, InvalidFeedback, IdempotencyConflict, StoreError, or
        StoreUnavailable without a database.
        """
        _check(feedback)
        return await self._writer.submit(feedback)

    async def flush(self) -> None:
        """Wait until everything handed in so far is durable or refused."""
        await self._writer.flush()

    async def close(self) -> None:
        """Write what is queued, then take nothing more."""
        await self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write(self, group: Sequence[Feedback]) -> list[FeedbackReceipt | RouterError]:
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                page = await _Page.read(connection, group, self._combine)
                results = [page.enter(signal) for signal in group]
                await page.write(connection)
        return results


class _Page:
    """Everything known of a group's locked decisions, and the rows that the group adds."""

    def __init__(
        self,
        combine: Combine,
        chosen: dict[UUID, str],
        answered: dict[UUID, str | None],
        credited: dict[UUID, reward_log.Credit],
        ids: Sequence[int],
    ) -> None:
        self._combine = combine
        self._chosen = chosen
        self._answered = answered
        self._credits = credited
        self._ids = iter(ids)
        self._values: dict[UUID, dict[str, float | None]] = {}
        self._keys: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._signals: list[dict[str, Any]] = []
        self._learner_rows: list[dict[str, Any]] = []

    @classmethod
    async def read(
        cls, connection: AsyncConnection, group: Sequence[Feedback], combine: Combine
    ) -> _Page:
        """Lock the group's decisions, then read; what is read later cannot change meanwhile."""
        ids = sorted({signal.decision_id for signal in group})
        chosen = await reward_log.lock_decisions(connection, ids)
        answered = await reward_log.answers_of(connection, ids)
        credited = await reward_log.credits_of(connection, ids)
        numbers = await connection.scalars(NEXT_IDS, {"count": len(group)})
        page = cls(combine, chosen, answered, credited, list(numbers))
        for row in await connection.execute(LAST_VALUES, {"ids": ids}):
            page._values.setdefault(row.decision_id, {})[row.metric] = row.value
        keyed = [signal for signal in group if signal.idempotency_key is not None]
        if keyed:
            asked = {
                "sources": [signal.source for signal in keyed],
                "keys": [signal.idempotency_key for signal in keyed],
            }
            for row in await connection.execute(USED_KEYS, asked):
                page._keys[row.source, row.idempotency_key] = (row.id, row.body_sha256)
        return page

    def enter(self, signal: Feedback) -> FeedbackReceipt | RouterError:
        """Take one signal in; the receipt, or the error that its caller gets."""
        body = _body_digest(signal)
        if signal.idempotency_key is not None:
            used = self._keys.get((signal.source, signal.idempotency_key))
            if used is not None:
                return self._again(signal, body, *used)
        if signal.decision_id not in self._chosen:
            return unknown_decision(signal.decision_id)
        values = self._values.setdefault(signal.decision_id, {})
        state = _state(values, signal)
        reward = self._combine(_present({**values, signal.metric: signal.value}))
        values[signal.metric] = signal.value
        feedback_id = next(self._ids)
        if signal.idempotency_key is not None:
            self._keys[signal.source, signal.idempotency_key] = (feedback_id, body)
        self._signals.append(_feedback_row(signal, feedback_id, state, body))
        self._credit(signal.decision_id, reward)
        return FeedbackReceipt(feedback_id, state, None if reward is None else reward.value)

    async def write(self, connection: AsyncConnection) -> None:
        """Store what the group added."""
        if self._signals:
            await connection.execute(insert(feedback_table), self._signals)
        await reward_log.append(connection, self._learner_rows)

    def _again(
        self, signal: Feedback, body: bytes, feedback_id: int, first_body: bytes
    ) -> FeedbackReceipt | RouterError:
        if body != first_body:
            return IdempotencyConflict(
                f"Idempotency-Key '{signal.idempotency_key}' was used before with another body; "
                "send the same body again, or a new key",
                param="Idempotency-Key",
            )
        values = _present(self._values.get(signal.decision_id, {}))
        reward = self._combine(values)
        return FeedbackReceipt(feedback_id, "duplicate", None if reward is None else reward.value)

    def _credit(self, decision_id: UUID, reward: Reward | None) -> None:
        """Append what differs between the log and the reward as it now stands."""
        arm = self._answered.get(decision_id) or self._chosen[decision_id]
        known = self._credits.get(decision_id, reward_log.Credit(arm, None))
        if reward == known.reward:
            return
        self._learner_rows.append(
            reward_log.learner_row(decision_id, arm, reward=reward, previous_reward=known.reward)
        )
        self._credits[decision_id] = reward_log.Credit(arm, reward)


def _check(feedback: Feedback) -> None:
    value, key = feedback.value, feedback.idempotency_key
    if value is not None and not math.isfinite(value):
        raise InvalidFeedback(
            f"value {value} of metric '{feedback.metric}' is not a finite number", param="value"
        )
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        raise InvalidFeedback(
            f"an Idempotency-Key has 1 to {LONGEST_KEY} characters; this one has {len(key)}",
            param="Idempotency-Key",
        )
    for name in ("metric", "source", "idempotency_key"):
        if (found := getattr(feedback, name)) is not None and storable(found) != found:
            raise InvalidFeedback(f"{name} {found!r} has characters that are no text", param=name)


def _state(values: Mapping[str, float | None], signal: Feedback) -> str:
    if values.get(signal.metric) == signal.value:
        return "duplicate"
    if signal.value is None:
        return "retracted"
    return "revised" if signal.metric in values else "recorded"


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {metric: value for metric, value in values.items() if value is not None}


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
        "idempotency_key": signal.idempotency_key,
        "body_sha256": body,
        "state": state,
    }
