"""What a group of signals changes: worked out on one page under its decisions' locks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]

from bandit_router.errors import IdempotencyConflict, RouterError
from bandit_router.protocols import FeedbackReceipt, OpenLedger, SourceLedger
from bandit_router.store import reward_log
from bandit_router.store.decision_log import unknown_decision
from bandit_router.store.fast_writes import copy_rows
from bandit_router.store.rows import storable
from bandit_router.store.source_table import Verdict, read_ledger, read_verdicts, write_ledger
from bandit_router.store.tables import feedback as feedback_table
from bandit_router.types import Feedback, Reward

Combine = Callable[[Mapping[str, float]], Reward | None]

# Oldest first: what each source said last of each metric.
LAST_VALUES = """
SELECT decision_id, metric, source, value FROM (
    SELECT DISTINCT ON (decision_id, metric, source) id, decision_id, metric, source, value
    FROM feedback WHERE decision_id = ANY($1::uuid[])
    ORDER BY decision_id, metric, source, id DESC
) last ORDER BY id
"""
USED_KEYS = """
SELECT id, source, idempotency_key, body_sha256 FROM feedback
JOIN unnest($1::text[], $2::text[]) AS asked(asked_source, asked_key)
ON source = asked_source AND idempotency_key = asked_key
"""
NEXT_IDS = """
SELECT nextval(pg_get_serial_sequence('feedback', 'id')) AS id FROM generate_series(1, $1)
"""


class FeedbackPage:
    """Everything known of a group's locked decisions, and the rows that the group adds."""

    def __init__(
        self,
        combine: Combine,
        ledger: SourceLedger | None,
        verdicts: Mapping[str, Verdict],
        decisions: Mapping[UUID, asyncpg.Record],
        facts: Mapping[UUID, reward_log.Facts],
        values: dict[UUID, dict[str, dict[str, float | None]]],
    ) -> None:
        self._combine = combine
        self._ledger = ledger
        self._verdicts = verdicts
        self._decisions = decisions
        self._facts = facts
        self._credits = {id_: found.credit for id_, found in facts.items() if found.credit}
        # By decision, metric and source; who spoke last stands last.
        self._values = values
        self._ids: Iterator[int] = iter(())
        self._keys: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._signals: list[dict[str, Any]] = []
        self._learner_rows: list[dict[str, Any]] = []
        self._now: datetime | None = None

    @classmethod
    async def of(
        cls,
        driver: asyncpg.Connection,
        ids: Sequence[UUID],
        combine: Combine,
        open_ledger: OpenLedger | None,
        sources: Collection[str] = (),
    ) -> FeedbackPage:
        """Lock the decisions, then read; what is read later cannot change meanwhile."""
        ids = sorted(set(ids))
        decisions = await reward_log.lock_decisions(driver, ids)
        facts = await reward_log.facts_of(driver, ids)
        values: dict[UUID, dict[str, dict[str, float | None]]] = {}
        spoke = set(sources)
        for decision_id, metric, source, value in await driver.fetch(LAST_VALUES, ids):
            values.setdefault(decision_id, {}).setdefault(metric, {})[source] = value
            spoke.add(source)
        if open_ledger is None:
            return cls(combine, None, {}, decisions, facts, values)
        verdicts = await read_verdicts(driver)
        ledger = await read_ledger(driver, open_ledger, spoke, verdicts)
        return cls(combine, ledger, verdicts, decisions, facts, values)

    @classmethod
    async def read(
        cls,
        driver: asyncpg.Connection,
        group: Sequence[Feedback],
        combine: Combine,
        open_ledger: OpenLedger | None,
    ) -> FeedbackPage:
        """The page of a group of signals."""
        ids = [signal.decision_id for signal in group]
        sources = {signal.source for signal in group}
        page = await cls.of(driver, ids, combine, open_ledger, sources)
        page._ids = iter([row["id"] for row in await driver.fetch(NEXT_IDS, len(group))])
        page._now = max(signal.received_at for signal in group)
        keyed = [signal for signal in group if signal.idempotency_key is not None]
        if keyed:
            used = await driver.fetch(
                USED_KEYS,
                [signal.source for signal in keyed],
                [_scoped_key(signal) for signal in keyed],
            )
            for row in used:
                page._keys[row["source"], row["idempotency_key"]] = (row["id"], row["body_sha256"])
        return page

    @property
    def unsettled(self) -> list[str]:
        """Sources whose earlier signals do not follow the verdict on them yet."""
        fresh = [] if self._ledger is None else list(self._ledger.verdicts)
        return [*fresh, *(name for name, told in self._verdicts.items() if not told.settled)]

    def enter(self, signal: Feedback) -> FeedbackReceipt | RouterError:
        """Take one signal in; the receipt, or the error that its caller gets."""
        # Another tenant's decision is as unknown as one that never was.
        decision = self._decisions.get(signal.decision_id)
        if decision is not None and signal.tenant not in (None, decision["tenant"]):
            return unknown_decision(signal.decision_id)
        body = _body_digest(signal)
        if signal.idempotency_key is not None:
            used = self._keys.get((signal.source, _scoped_key(signal)))
            if used is not None:
                return self._again(signal, body, *used)
        if decision is None:
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
        if decision_id in self._decisions:
            self._credit(decision_id, reward)
        return reward

    def _arm(self, decision_id: UUID) -> str:
        return self._facts[decision_id].answered_by or str(self._decisions[decision_id]["chosen"])

    def _expected(self, decision_id: UUID) -> float | None:
        """The quality that was predicted of the arm; None where the decision says nothing of it."""
        decision, arm = self._decisions.get(decision_id), self._arm(decision_id)
        if decision is None or arm not in decision["arms"]:
            return None
        return float(decision["predicted_quality"][decision["arms"].index(arm)])

    def _tell(self, signal: Feedback, before: float | None) -> None:
        """Enter what the source says now, instead of before, into the ledger."""
        if self._ledger is None:
            return
        arm = self._arm(signal.decision_id)
        expected = self._expected(signal.decision_id)
        if expected is None:
            return
        for value, count in ((before, -1.0), (signal.value, 1.0)):
            reward = None if value is None else self._combine({signal.metric: value})
            if reward is not None:
                key = (signal.source, signal.metric, arm)
                self._ledger.enter(key, reward.value - expected, count)

    def _residual(self, decision_id: UUID, metric: str, value: float | None) -> float:
        """How far a value is from what was predicted; 0 where either says nothing."""
        expected = self._expected(decision_id)
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

    async def write(self, driver: asyncpg.Connection) -> None:
        """Store what the group added."""
        await copy_rows(driver, feedback_table, self._signals)
        await reward_log.append(driver, self._learner_rows)
        if self._ledger is not None and self._now is not None:
            await write_ledger(driver, self._ledger, self._now)

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
