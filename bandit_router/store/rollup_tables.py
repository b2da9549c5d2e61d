"""Sums over the decision log, kept up by ``rollups``: what dashboards read instead of the log.

A row belongs to the moment of its *decision*, so that a late reward revises the bucket that its
decision is in. Every number is a sum, and sums of buckets are the sum of the whole.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)

from bandit_router.store.tables import NOW, TIMESTAMP, metadata

# Whoever takes the schema from here has these tables in it, and all others.
__all__ = ["metadata", "rollup_bins", "rollup_cursor", "rollup_models", "rollup_segments"]
ZERO = text("0")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=ZERO)


def _sum(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=ZERO)


# One row: everything before transaction ``xid`` is in the sums.
rollup_cursor = Table(
    "rollup_cursor",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("xid", BigInteger, nullable=False),
    Column("updated_at", TIMESTAMP, nullable=False, server_default=NOW),
)

rollup_models = Table(
    "rollup_models",
    metadata,
    Column("width_s", Integer, nullable=False),
    Column("bucket", TIMESTAMP, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("model", Text, nullable=False),
    # Of every model that a decision could have chosen.
    _count("considered"),
    _count("eligible"),
    _sum("pmf"),
    _sum("predicted_cost_usd"),
    _sum("predicted_quality"),
    _sum("exploration_usd"),
    # Of the model that was chosen.
    _count("decisions"),
    _count("escalations"),
    _count("looks"),
    _sum("entropy"),
    _sum("chosen_predicted_cost_usd"),
    _count("outcomes"),
    _count("fallbacks"),
    _count("failures"),
    _count("cancellations"),
    _sum("look_cost_usd"),
    # Of the model that answered, or was chosen where none did.
    _count("answers"),
    _count("retries"),
    _count("costed"),
    _sum("cost_usd"),
    _sum("costed_predicted_usd"),
    _sum("latency_s"),
    _count("first_tokens"),
    _sum("first_token_s"),
    _count("input_tokens"),
    _count("output_tokens"),
    # Of the model that a reward belongs to. Numeric: a retracted reward leaves no rest.
    _count("rewards"),
    Column("reward_sum", Numeric, nullable=False, server_default=ZERO),
    _count("low_rewards"),
    Column("rewarded_predicted", Numeric, nullable=False, server_default=ZERO),
    PrimaryKeyConstraint("width_s", "bucket", "tenant", "mode", "model"),
)

# Histograms: kind is latency, first_token or reward; rollups says where a bin begins.
rollup_bins = Table(
    "rollup_bins",
    metadata,
    Column("width_s", Integer, nullable=False),
    Column("bucket", TIMESTAMP, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("bin", SmallInteger, nullable=False),
    _count("entries"),
    PrimaryKeyConstraint("width_s", "bucket", "tenant", "model", "kind", "bin"),
)

# Kinds of requests: a label's value, or how long the prompt is.
rollup_segments = Table(
    "rollup_segments",
    metadata,
    Column("width_s", Integer, nullable=False),
    Column("bucket", TIMESTAMP, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("model", Text, nullable=False),
    _count("decisions"),
    _count("answers"),
    _sum("cost_usd"),
    _count("rewards"),
    Column("reward_sum", Numeric, nullable=False, server_default=ZERO),
    _count("low_rewards"),
    PrimaryKeyConstraint("width_s", "bucket", "tenant", "segment", "model"),
)

# Labels come from callers: only so many of them become segments.
rollup_segment_names = Table(
    "rollup_segment_names",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("first_seen_at", TIMESTAMP, nullable=False, server_default=NOW),
)
