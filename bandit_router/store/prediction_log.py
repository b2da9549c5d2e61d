"""What was expected of the newest decisions, and what came of them, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.decision_list import OUTCOME, REWARD_NOW
from bandit_router.store.engine import store_errors
from bandit_router.store.partitions import ID_SLACK, id_lower_bound
from bandit_router.store.rows import unpack_features
from bandit_router.types import BoolArray, FloatArray, IntArray

# Where the decision's own model answered: a fallback was not what the prediction was about.
NEWEST = text(
    f"""
    WITH d AS MATERIALIZED (
        SELECT d.id, d.arms, d.chosen, d.mode, d.pmf, d.eligible, d.price_of_dollar,
               d.price_of_second, d.predicted_quality, d.predicted_quality_sd,
               d.predicted_cost_usd, d.predicted_latency_s, d.look_arm, d.look_probability
        FROM decisions d
        WHERE d.id >= :low AND (CAST(:tenant AS text) IS NULL OR d.tenant = :tenant)
        ORDER BY d.id DESC LIMIT :limit
    )
    SELECT d.arms, d.chosen, d.mode, d.pmf, d.eligible, d.price_of_dollar, d.price_of_second,
           d.predicted_quality, d.predicted_quality_sd, d.predicted_cost_usd,
           d.predicted_latency_s, d.look_arm, d.look_probability, o.cost_usd, o.latency_s,
           o.answered_by = d.chosen AS answered, r.reward
    FROM d {OUTCOME} {REWARD_NOW}
    """
)
SEGMENTS = text(
    f"""
    WITH d AS MATERIALIZED (
        SELECT d.id, d.metadata ->> :key AS segment, d.features, d.input_tokens
        FROM decisions d
        WHERE (CAST(:tenant AS text) IS NULL OR d.tenant = :tenant)
          AND d.extractor_version = :extractor
        ORDER BY d.id DESC LIMIT :limit
    )
    SELECT d.segment, d.features, d.input_tokens, o.answered_by, o.cost_usd, r.reward
    FROM d {OUTCOME} {REWARD_NOW}
    """
)


@dataclass(frozen=True, slots=True)
class Expectations:
    """The newest decisions of one set of arms, newest first; NaN where nothing is known.

    quality, quality_sd, cost_usd, latency_s, pmf: (n, K), as predicted and logged.
    eligible: (n, K). arm: (n,) the one chosen. reward, paid_usd, took_s: (n,) as observed, the
    last two only where the chosen model answered. by_policy: (n,) whether the policy chose.
    looks: (n,) whether a forced look was due for the arm that was then chosen.
    """

    arms: tuple[str, ...]
    arm: IntArray
    by_policy: BoolArray
    looks: BoolArray
    eligible: BoolArray
    pmf: FloatArray
    quality: FloatArray
    quality_sd: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray
    price_of_dollar: FloatArray
    price_of_second: FloatArray
    reward: FloatArray
    paid_usd: FloatArray
    took_s: FloatArray


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The newest decisions with one label of theirs. segment: its value, None without one.

    features: (n, m). input_tokens, reward, cost_usd: (n,). answered_by: who did.
    """

    segment: tuple[str | None, ...]
    features: FloatArray
    input_tokens: FloatArray
    answered_by: tuple[str | None, ...]
    reward: FloatArray
    cost_usd: FloatArray


class PredictionLog:
    """Reads the newest decisions; a bounded number, so that a long log costs no more."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def newest(
        self, arms: tuple[str, ...], since: datetime, *, limit: int, tenant: str | None = None
    ) -> Expectations:
        """At most ``limit`` decisions since a time that chose among just these arms."""
        at = {"low": id_lower_bound(since - ID_SLACK), "limit": limit, "tenant": tenant}
        rows = [row for row in await self._rows(NEWEST, at) if tuple(row.arms) == arms]
        index = {name: k for k, name in enumerate(arms)}
        size = (len(rows), len(arms))

        def column(name: str) -> FloatArray:
            return _floats([getattr(row, name) for row in rows])

        def matrix(name: str) -> FloatArray:
            return _floats([getattr(row, name) for row in rows]).reshape(size)

        answered = np.array([bool(row.answered) for row in rows], dtype=np.bool_)
        arm = np.array([index[row.chosen] for row in rows], dtype=np.int64)
        return Expectations(
            arms=arms,
            arm=arm,
            by_policy=np.array([row.mode == "policy" for row in rows], dtype=np.bool_),
            looks=np.array(
                [row.look_arm if row.look_probability < 1.0 else -1 for row in rows],
                dtype=np.int64,
            )
            == arm,
            eligible=np.array([row.eligible for row in rows], dtype=np.bool_).reshape(size),
            pmf=matrix("pmf"),
            quality=matrix("predicted_quality"),
            quality_sd=matrix("predicted_quality_sd"),
            cost_usd=matrix("predicted_cost_usd"),
            latency_s=matrix("predicted_latency_s"),
            price_of_dollar=column("price_of_dollar"),
            price_of_second=column("price_of_second"),
            reward=np.where(answered, column("reward"), np.nan),
            paid_usd=np.where(answered, column("cost_usd"), np.nan),
            took_s=np.where(answered, column("latency_s"), np.nan),
        )

    async def segments(
        self, key: str, extractor: str, *, limit: int, tenant: str | None = None
    ) -> SegmentRows:
        """The newest decisions whose features this extractor made, by a metadata key."""
        at = {"key": key, "extractor": extractor, "limit": limit, "tenant": tenant}
        rows = await self._rows(SEGMENTS, at)
        features = [unpack_features(row.features) for row in rows]
        return SegmentRows(
            segment=tuple(row.segment for row in rows),
            features=np.array(features, dtype=np.float64),
            input_tokens=_floats([row.input_tokens for row in rows]),
            answered_by=tuple(row.answered_by for row in rows),
            reward=_floats([row.reward for row in rows]),
            cost_usd=_floats([row.cost_usd for row in rows]),
        )

    async def _rows(self, query: Any, values: dict[str, Any]) -> list[Any]:
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                return list(await connection.execute(query, values))


def _floats(values: list[Any]) -> FloatArray:
    # None becomes NaN.
    return np.array(values, dtype=np.float64)
