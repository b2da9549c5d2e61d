"""Pages of decisions and attempts, newest first, by filters.

Every value is a bound parameter; what stands in a query's text is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors
from bandit_router.store.partitions import ID_SLACK, id_lower_bound

# Filters on what came after a decision need a look at each one: a page looks at so many at
# most, and says where it stopped.
LOOKED_AT = 5_000
# Filters on its own row are cheaper: counting back that far is most of the work.
REACHED_BACK = 20_000
FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """What is asked for; None asks nothing. model: the one chosen. status: of the outcome, or
    ``unknown``. reward_low, reward_high: bounds of the reward, which they demand."""

    tenant: str | None = None
    model: str | None = None
    answered_by: str | None = None
    mode: str | None = None
    policy: str | None = None
    session_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    has_feedback: bool | None = None
    reward_low: float | None = None
    reward_high: float | None = None

    @property
    def looks_beyond(self) -> bool:
        """Whether the decision's own row does not say if it fits."""
        asked = (self.answered_by, self.status, self.has_feedback, self.reward_low)
        return any(value is not None for value in (*asked, self.reward_high))


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """One decision in a list. status: of the outcome, None while it is unknown."""

    decision_id: UUID
    created_at: datetime
    tenant: str
    session_id: str | None
    mode: str
    policy: str
    snapshot_version: int
    model: str
    propensity: float
    input_tokens: int
    predicted_quality: float
    predicted_cost_usd: float
    metadata: dict[str, str]
    answered_by: str | None
    status: str | None
    attempts: int | None
    latency_s: float | None
    cost_usd: float | None
    reward: float | None
    feedback: int


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """Some decisions, newest first. next: hand it in as ``before`` for those that follow; None
    at the end. A page can be short, or empty, and still have a next one."""

    decisions: tuple[DecisionLine, ...]
    next: UUID | None


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One call of one model in a list."""

    decision_id: UUID
    position: int
    tenant: str
    model: str
    status: str
    started_at: datetime
    latency_s: float
    first_token_s: float | None
    http_status: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    error: str | None


OWN = {
    "tenant": "d.tenant = :tenant",
    "model": "d.chosen = :model",
    "mode": "d.mode = :mode",
    "policy": "d.policy = :policy",
    "session_id": "d.session_id = :session_id",
    "since": "d.id >= :low AND d.created_at >= :since",
    "until": "d.id < :high AND d.created_at < :until",
}
BEYOND = {
    "answered_by": "o.answered_by = :answered_by",
    "status": "coalesce(o.status, 'unknown') = :status",
    "has_feedback": "(f.feedback > 0) = :has_feedback",
    "reward_low": "r.reward >= :reward_low",
    "reward_high": "r.reward <= :reward_high",
}
# OFFSET 0: looked up one by one by its index. As a plain join the planner would rather read all
# outcomes there are, for a few thousand decisions.
OUTCOME = """LEFT JOIN LATERAL (
        SELECT * FROM outcomes WHERE outcomes.decision_id = d.id OFFSET 0
    ) o ON true"""
# The reward of decision d as it now stands.
REWARD_NOW = """LEFT JOIN LATERAL (
        SELECT reward FROM rewards r WHERE r.decision_id = d.id
          AND (r.reward IS NOT NULL OR r.previous_reward IS NOT NULL) ORDER BY r.seq DESC LIMIT 1
    ) r ON true"""
FEEDBACK_COUNT = """LEFT JOIN LATERAL (
        SELECT count(*) AS feedback FROM feedback f WHERE f.decision_id = d.id
    ) f ON true"""
# First whichever decisions fit, by what has to be looked at for that; then all else of those few.
PAGE = """
    WITH looked AS MATERIALIZED (
        SELECT d.id FROM decisions d WHERE d.id < :before AND d.id >= :reach AND {own}
        ORDER BY d.id DESC LIMIT :look_at
    ), fits AS MATERIALIZED (
        SELECT d.id FROM looked d {looks} WHERE {beyond} ORDER BY d.id DESC LIMIT :limit
    )
    SELECT d.id AS decision_id, d.created_at, d.tenant, d.session_id, d.mode, d.policy,
           d.snapshot_version, d.chosen AS model, d.propensity, d.input_tokens,
           d.predicted_quality[array_position(d.arms, d.chosen)] AS predicted_quality,
           d.predicted_cost_usd[array_position(d.arms, d.chosen)] AS predicted_cost_usd,
           d.metadata, o.answered_by, o.status, o.attempts, o.latency_s, o.cost_usd, r.reward,
           f.feedback
    FROM fits JOIN decisions d ON d.id = fits.id {everything} ORDER BY d.id DESC
    """
LOOKS_AT = {
    "answered_by": OUTCOME,
    "status": OUTCOME,
    "has_feedback": FEEDBACK_COUNT,
    "reward_low": REWARD_NOW,
    "reward_high": REWARD_NOW,
}
EVERYTHING = f"{OUTCOME} {REWARD_NOW} {FEEDBACK_COUNT}"
# How far back a page reaches: filters that no index serves look at each decision.
REACH = "SELECT id FROM decisions WHERE id < :before ORDER BY id DESC OFFSET :most - 1 LIMIT 1"
# Where a page that looked at all it may ended.
REACHED = """
    SELECT id FROM decisions d WHERE d.id < :before AND d.id >= :reach AND {own}
    ORDER BY d.id DESC OFFSET :look_at - 1 LIMIT 1
    """
ATTEMPTS = """
    SELECT a.decision_id, a.position, d.tenant, a.model, a.status, a.started_at, a.latency_s,
           a.first_token_s, a.http_status, a.input_tokens, a.output_tokens, a.cost_usd, a.error
    FROM attempts a JOIN decisions d ON d.id = a.decision_id
    WHERE (a.decision_id, a.position) < (:before, :before_position)
      AND a.decision_id >= :reach AND {own}
    ORDER BY a.decision_id DESC, a.position DESC LIMIT :limit
    """
ATTEMPT_REACH = """
    SELECT decision_id FROM attempts WHERE (decision_id, position) < (:before, :before_position)
    ORDER BY decision_id DESC, position DESC OFFSET :most - 1 LIMIT 1
    """
ATTEMPT_FILTERS = {
    "tenant": "d.tenant = :tenant",
    "model": "a.model = :model",
    "status": "a.status = :status",
}


@dataclass(frozen=True, slots=True)
class AttemptPage:
    """Some calls, newest decision first. next: decision and position to hand in as ``before`` for
    those that follow; None at the end. A page can be short, and still have a next one."""

    attempts: tuple[AttemptLine, ...]
    next: tuple[UUID, int] | None


class DecisionList:
    """Reads pages; nothing here is on the hot path."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def decisions(
        self, asked: DecisionFilter, *, before: UUID | None = None, limit: int = 50
    ) -> DecisionPage:
        """The newest decisions that fit and came before the one called ``before``."""
        own, values = _conditions(OWN, asked)
        beyond, more = _conditions(BEYOND, asked)
        looks = " ".join(dict.fromkeys(LOOKS_AT[name] for name in more))
        look_at = LOOKED_AT if asked.looks_beyond else limit
        values |= more | {"before": before or LAST_ID, "limit": limit, "look_at": look_at}
        values |= {
            name: id_lower_bound(moment, slack)
            for name, moment, slack in (
                ("low", asked.since, -ID_SLACK),
                ("high", asked.until, ID_SLACK),
            )
            if moment is not None
        }
        if "high" in values:
            # Not back from the newest one, thousands a page, to the first that can fit.
            values["before"] = min(values["before"], values["high"])
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                most = {"before": values["before"], "most": REACHED_BACK}
                filtered = own != "true"
                end = await connection.scalar(text(REACH), most) if filtered else None
                values["reach"] = end or FIRST_ID
                query = PAGE.format(own=own, looks=looks, beyond=beyond, everything=EVERYTHING)
                found = (await connection.execute(text(query), values)).mappings().all()
                lines = tuple(DecisionLine(**row) for row in found)
                if len(lines) == limit:
                    return DecisionPage(lines, lines[-1].decision_id)
                if not asked.looks_beyond:
                    return DecisionPage(lines, end)
                del values["limit"]
                own_values = {k: v for k, v in values.items() if k not in more}
                reached = await connection.scalar(text(REACHED.format(own=own)), own_values)
                return DecisionPage(lines, reached or end)

    async def attempts(
        self,
        *,
        tenant: str | None = None,
        model: str | None = None,
        status: str | None = None,
        before: tuple[UUID, int] | None = None,
        limit: int = 50,
    ) -> AttemptPage:
        """The newest calls that fit and came before the one named: decision and position."""
        asked = {"tenant": tenant, "model": model, "status": status}
        given = {name: value for name, value in asked.items() if value is not None}
        own = " AND ".join(ATTEMPT_FILTERS[name] for name in given) or "true"
        last, position = before or (LAST_ID, 0)
        place = {"before": last, "before_position": position}
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                most = {**place, "most": REACHED_BACK}
                end = await connection.scalar(text(ATTEMPT_REACH), most) if given else None
                values = {**given, **place, "limit": limit, "reach": end or FIRST_ID}
                found = await connection.execute(text(ATTEMPTS.format(own=own)), values)
                lines = tuple(AttemptLine(**row) for row in found.mappings())
        if len(lines) == limit:
            return AttemptPage(lines, (lines[-1].decision_id, lines[-1].position))
        return AttemptPage(lines, None if end is None else (end, 0))


def _conditions(known: dict[str, str], asked: DecisionFilter) -> tuple[str, dict[str, Any]]:
    values = {name: getattr(asked, name) for name in known if getattr(asked, name) is not None}
    return " AND ".join(known[name] for name in values) or "true", values
