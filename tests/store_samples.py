"""Decisions and outcomes for tests of the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from bandit_router.types import (
    Attempt,
    AttemptStatus,
    Decision,
    Exploration,
    MaskReason,
    Mode,
    Outcome,
    Prediction,
    Reward,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARMS = ("small", "large", "local")


def decision_id(moment: datetime = NOON) -> UUID:
    """A UUIDv7 of a moment (RFC 9562): milliseconds, version, variant, random rest."""
    low = int.from_bytes(os.urandom(10), "big")
    low = low & ~(0xF << 76) | 0x7 << 76
    low = low & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=int(moment.timestamp() * 1000) << 80 | low)


def first_value(values: Mapping[str, float]) -> Reward | None:
    """The reward of a decision with one metric: its value as it is."""
    return next((Reward(value) for value in values.values()), None)


def make_decision(moment: datetime = NOON, **changes: Any) -> Decision:
    """A decision between three arms, the third one masked, that chose ``small``."""
    values: dict[str, Any] = {
        "id": decision_id(moment),
        "created_at": moment,
        "tenant": "acme",
        "session_id": "s-1",
        "mode": Mode.POLICY,
        "arms": ARMS,
        "eligible": np.array([True, True, False]),
        "masked": {"local": MaskReason.CONTEXT_WINDOW},
        "pmf": np.array([0.75, 0.25, 0.0]),
        "chosen": "small",
        "propensity": 0.75,
        "fallbacks": ("large", "local"),
        "features": np.array([0.1, -2.5, 3.0], dtype=np.float32),
        "extractor_version": "stats-1",
        "input_tokens": 12,
        "policy": "thompson",
        "snapshot_version": 7,
        "price_of_dollar": 30.5,
        "price_of_second": 0.01,
        "exploration": Exploration(np.array([0.01, 0.02, 0.0]), 1, 0.05),
        "prediction": Prediction(
            quality=np.array([0.6, 0.9, 0.3]),
            quality_sd=np.array([0.1, 0.2, 0.3]),
            cost_usd=np.array([1e-5, 2e-3, 0.0]),
            latency_s=np.array([0.4, 1.5, 2.5]),
        ),
        "metadata": {"task": "math"},
        "prompt": None,
    }
    return Decision(**{**values, **changes})


def make_outcome(decision: Decision, answered_by: str | None = "small", **changes: Any) -> Outcome:
    """A good outcome, or a failed one when nobody answered."""
    values: dict[str, Any] = {
        "decision_id": decision.id,
        "answered_by": answered_by,
        "status": AttemptStatus.OK if answered_by else AttemptStatus.SERVER_ERROR,
        "finished_at": decision.created_at + timedelta(seconds=1),
        "latency_s": 0.8,
        "attempts": 1,
        "first_token_s": 0.2,
        "input_tokens": 12,
        "output_tokens": 34,
        "cost_usd": 0.00021,
    }
    return Outcome(**{**values, **changes})


def make_attempt(decision: Decision, position: int = 0, **changes: Any) -> Attempt:
    """One good call of ``small``."""
    values: dict[str, Any] = {
        "decision_id": decision.id,
        "position": position,
        "model": "small",
        "status": AttemptStatus.OK,
        "started_at": decision.created_at,
        "latency_s": 0.8,
        "cost_usd": 0.00021,
    }
    return Attempt(**{**values, **changes})
