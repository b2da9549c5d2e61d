"""A log of very many decisions, written by COPY: thirty days of recorded prompts, routed.

Prompts, features, qualities and costs are those of an outcome matrix. What varies is what
varies in service: the time of day, tenants, models that fail and are stood in for, answers that
nobody judges, feedback that comes late. Expectations are the outcomes, blurred.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.config import FeaturesConfig
from bandit_router.features import build_extractor
from bandit_router.ids import uuid7
from bandit_router.store.engine import driver_connection
from bandit_router.store.partitions import ensure_partitions
from bandit_router.store.rows import ATTEMPT_FIELDS, OUTCOME_FIELDS, pack_features
from bandit_router.types import FloatArray, RoutingRequest
from simulations.matrix import OutcomeMatrix

DAYS = 30
# Each batch is one transaction, as the sums are moved on by transactions.
BATCH = 10_000
MOST_PROMPTS = 1_500
TENANTS, TENANT_SHARES = ("default", "acme", "northwind"), (0.7, 0.2, 0.1)
MODES, MODE_SHARES = ("policy", "override", "sticky", "rule"), (0.92, 0.04, 0.03, 0.01)
TIERS = ("free", "team", "enterprise")
JUDGED, FALLEN_BACK, FAILED, UNKNOWN, LOOKS = 0.2, 0.02, 0.004, 0.002, 0.01
PRICE_OF_DOLLAR = 12.0
BLUR, SD, FLOOR, LOOK_PROBABILITY = 0.15, 0.12, 0.005, 0.02
MEAN_LATENCY_S, MEAN_FEEDBACK_LAG_S = 1.2, 1800.0

DECISION_COLUMNS = [
    "id",
    "created_at",
    "tenant",
    "session_id",
    "mode",
    "arms",
    "eligible",
    "masked",
    "pmf",
    "chosen",
    "propensity",
    "fallbacks",
    "features",
    "extractor_version",
    "input_tokens",
    "policy",
    "snapshot_version",
    "price_of_dollar",
    "price_of_second",
    "exploration_floor",
    "look_arm",
    "look_probability",
    "predicted_quality",
    "predicted_quality_sd",
    "predicted_cost_usd",
    "predicted_latency_s",
    "metadata",
]
FEEDBACK_COLUMNS = [
    "decision_id",
    "metric",
    "value",
    "received_at",
    "source",
    "tags",
    "body_sha256",
    "state",
]
REWARD_COLUMNS = [
    "decision_id",
    "arm",
    "reward",
    "cost_usd",
    "latency_s",
    "output_tokens",
    "created_at",
]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a prompt is known by, and what each model would make of it. The arrays are (n, K)."""

    models: tuple[str, ...]
    features: tuple[bytes, ...]
    extractor_version: str
    input_tokens: tuple[int, ...]
    topic: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray


def prompts_of(matrix: OutcomeMatrix, features: FeaturesConfig) -> Prompts:
    """The prompts of a matrix of which all is known, as the service would see them; the first
    ``MOST_PROMPTS`` at most."""
    index = np.flatnonzero(matrix.known.all(axis=1) & np.isfinite(matrix.cost_usd).all(axis=1))
    kept = matrix.rows(index[:MOST_PROMPTS])
    extractor = build_extractor(features)
    requests = [
        RoutingRequest(
            messages=({"role": "user", "content": prompt},),
            metadata={"task": topic} if topic else {},
        )
        for prompt, topic in zip(kept.prompts, kept.category, strict=True)
    ]
    return Prompts(
        models=kept.models,
        features=tuple(pack_features(extractor.extract(request)) for request in requests),
        extractor_version=extractor.version,
        input_tokens=tuple(max(1, len(prompt) // 4) for prompt in kept.prompts),
        topic=kept.category,
        quality=np.asarray(kept.quality),
        cost_usd=np.asarray(kept.cost_usd),
    )


async def fill(
    engine: AsyncEngine,
    prompts: Prompts,
    decisions: int,
    until: datetime,
    on_batch: Callable[[int], None] = lambda count: None,
) -> None:
    """Write that many decisions of the thirty days before ``until``, and what followed."""
    await ensure_partitions(engine, until - timedelta(days=DAYS - 1), days_ahead=DAYS)
    connection = await driver_connection(engine)
    try:
        rng = np.random.default_rng(1)
        moments = _moments(rng, decisions, until)
        for first in range(0, decisions, BATCH):
            batch = _batch(rng, prompts, moments[first : first + BATCH], until)
            async with connection.transaction():
                for table, columns, rows in batch:
                    await connection.copy_records_to_table(table, records=rows, columns=columns)
            on_batch(len(moments[first : first + BATCH]))
        # As Postgres does by itself in the course of thirty days.
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


def _moments(rng: np.random.Generator, count: int, until: datetime) -> FloatArray:
    """(count,) Unix seconds, sorted: three times as many by day as by night."""
    share = np.sort(rng.random(count))
    phase = 2.0 * np.pi * share * DAYS
    bent = share - 0.5 * np.sin(phase) / (2.0 * np.pi * DAYS)
    return until.timestamp() - 1.0 - DAYS * 86_400.0 * (1.0 - np.sort(bent))


def _batch(
    rng: np.random.Generator, prompts: Prompts, moments: FloatArray, until: datetime
) -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    n, arms = len(moments), len(prompts.models)
    which = rng.integers(len(prompts.features), size=n)
    quality, cost_usd = prompts.quality[which], prompts.cost_usd[which]
    expected = np.clip(quality + BLUR * rng.standard_normal((n, arms)), 0.0, 1.0)
    expected_usd = cost_usd * np.exp(0.2 * rng.standard_normal((n, arms)))
    expected_s = MEAN_LATENCY_S * np.exp(0.3 * rng.standard_normal((n, arms)))
    pmf = _pmf(expected - PRICE_OF_DOLLAR * expected_usd)
    looks = np.where(rng.random(n) < LOOKS / LOOK_PROBABILITY, rng.integers(arms, size=n), -1)
    arm = np.minimum((pmf.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1), arms - 1)
    tenants = rng.choice(len(TENANTS), size=n, p=TENANT_SHARES)
    modes = rng.choice(len(MODES), size=n, p=MODE_SHARES)
    chance = rng.random((4, n))
    took_s = rng.gamma(2.0, MEAN_LATENCY_S / 2.0, n)
    judged_after_s = rng.exponential(MEAN_FEEDBACK_LAG_S, n)
    scores = np.clip(quality + 0.05 * rng.standard_normal((n, arms)), 0.0, 1.0)
    random_bits = rng.bytes(10 * n)
    names = list(prompts.models)
    eligible, floor, sds = [True] * arms, [FLOOR] * arms, [SD] * arms
    made: list[tuple[Any, ...]] = []
    attempts: list[tuple[Any, ...]] = []
    outcomes: list[tuple[Any, ...]] = []
    feedback: list[tuple[Any, ...]] = []
    rewards: list[tuple[Any, ...]] = []
    for i in range(n):
        at = datetime.fromtimestamp(moments[i], UTC)
        decision_id = uuid7(at, int.from_bytes(random_bits[10 * i : 10 * i + 10], "big"))
        p, k = which[i], int(arm[i])
        labels = {"task": prompts.topic[p], "user_tier": TIERS[p % len(TIERS)]}
        made.append(
            (
                decision_id,
                at,
                TENANTS[tenants[i]],
                f"s-{i // 5}" if modes[i] == 2 else None,
                MODES[modes[i]],
                names,
                eligible,
                "{}",
                pmf[i].tolist(),
                names[k],
                float(pmf[i, k]),
                [name for name in names if name != names[k]],
                prompts.features[p],
                prompts.extractor_version,
                prompts.input_tokens[p],
                "thompson",
                1,
                PRICE_OF_DOLLAR,
                0.0,
                floor,
                int(looks[i]),
                LOOK_PROBABILITY if looks[i] >= 0 else 0.0,
                expected[i].tolist(),
                sds,
                expected_usd[i].tolist(),
                expected_s[i].tolist(),
                json.dumps(labels),
            )
        )
        if chance[0, i] < UNKNOWN:
            continue
        failed, fell = chance[1, i] < FAILED, chance[2, i] < FALLEN_BACK
        answered = None if failed else (k + 1) % arms if fell else k
        seconds, out_tokens = float(took_s[i]), 40 + int(took_s[i] * 90)
        ended = at + timedelta(seconds=seconds)
        paid_usd = 0.0 if answered is None else float(cost_usd[i, answered])
        for position, (j, status) in enumerate(
            [(k, "ok")] if answered == k else [(k, "server_error"), ((k + 1) % arms, "ok")]
        ):
            bad = status != "ok" or failed
            attempts.append(
                (
                    decision_id,
                    position,
                    names[j],
                    "server_error" if bad else status,
                    at,
                    seconds,
                    None if bad else 0.2 * seconds,
                    500 if bad else 200,
                    None if bad else prompts.input_tokens[p],
                    None if bad else out_tokens,
                    0.0 if bad else paid_usd,
                    "HTTP 500: overloaded" if bad else None,
                )
            )
        outcomes.append(
            (
                decision_id,
                None if answered is None else names[answered],
                "server_error" if answered is None else "ok",
                ended,
                seconds,
                1 if answered == k else 2,
                None if answered is None else 0.2 * seconds,
                prompts.input_tokens[p],
                out_tokens,
                paid_usd,
            )
        )
        if answered is None:
            continue
        rewards.append((decision_id, names[answered], None, paid_usd, seconds, out_tokens, ended))
        told = ended + timedelta(seconds=float(judged_after_s[i]))
        if chance[3, i] < JUDGED and told < until:
            value = float(scores[i, answered])
            body = bytes(32)
            source = f"key-{tenants[i]}"
            feedback.append((decision_id, "quality", value, told, source, "{}", body, "recorded"))
            rewards.append((decision_id, names[answered], value, None, None, None, told))
    yield "decisions", DECISION_COLUMNS, made
    yield "attempts", list(ATTEMPT_FIELDS), attempts
    yield "outcomes", list(OUTCOME_FIELDS), outcomes
    yield "feedback", FEEDBACK_COLUMNS, feedback
    yield "rewards", REWARD_COLUMNS, rewards


def _pmf(utility: FloatArray) -> FloatArray:
    """(n, K) a choice that is sharp where models differ, never below the floor."""
    weight = np.exp((utility - utility.max(axis=1, keepdims=True)) / 0.05)
    share = weight / weight.sum(axis=1, keepdims=True)
    return np.asarray(FLOOR + (1.0 - FLOOR * utility.shape[1]) * share)
