"""The one schema. ``migrations/`` builds it; a test holds the two together.

Decisions, attempts, outcomes, feedback and rewards are append-only. There are no foreign keys
to ``decisions``: it is partitioned by day, old days are dropped whole, and every writer locks
the decision row it speaks of anyway.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

TIMESTAMP = DateTime(timezone=True)
FLOATS = ARRAY(Double)
TEXTS = ARRAY(Text)
NOW = text("now()")
# The writing transaction: rows below the oldest running one are settled, and none comes after.
XID = text("pg_current_xact_id()::text::bigint")

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("config", JSONB, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=NOW),
    Column("updated_at", TIMESTAMP, nullable=False, server_default=NOW),
)

# A sequence, not an identity column: partitioned tables have those only from Postgres 17 on.
decision_seq = Sequence("decisions_seq", metadata=metadata, data_type=BigInteger)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Uuid, nullable=False),
    Column(
        "seq", BigInteger, decision_seq, nullable=False, server_default=decision_seq.next_value()
    ),
    Column("created_at", TIMESTAMP, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("session_id", Text),
    Column("mode", Text, nullable=False),
    Column("arms", TEXTS, nullable=False),
    Column("eligible", ARRAY(Boolean), nullable=False),
    Column("masked", JSONB, nullable=False),
    Column("pmf", FLOATS, nullable=False),
    Column("chosen", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("fallbacks", TEXTS, nullable=False),
    # float32, little endian
    Column("features", LargeBinary, nullable=False),
    Column("extractor_version", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("policy", Text, nullable=False),
    Column("snapshot_version", BigInteger, nullable=False),
    Column("price_of_dollar", Double, nullable=False),
    Column("price_of_second", Double, nullable=False),
    Column("exploration_floor", FLOATS, nullable=False),
    Column("look_arm", Integer, nullable=False),
    Column("look_probability", Double, nullable=False),
    Column("predicted_quality", FLOATS, nullable=False),
    Column("predicted_quality_sd", FLOATS, nullable=False),
    Column("predicted_cost_usd", FLOATS, nullable=False),
    Column("predicted_latency_s", FLOATS, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("prompt", JSONB),
    Column("xid", BigInteger, nullable=False, server_default=XID),
    Column("influences", JSONB, nullable=False, server_default=text("'{}'")),
    Column("trial", JSONB(none_as_null=True)),
    Column("operation", Text, nullable=False, server_default=text("'chat'")),
    Column("predicted_first_token_s", FLOATS),
    PrimaryKeyConstraint("id"),
    Index(None, "created_at"),
    Index(None, "xid"),
    Index(
        "ix_decisions_session",
        "tenant",
        "session_id",
        postgresql_where=text("session_id IS NOT NULL"),
    ),
    Index(
        "ix_decisions_cascade",
        "created_at",
        postgresql_where=text("influences ? 'cascade'"),
    ),
    # UUIDv7: ids rise with time, so a range of ids is a range of days.
    postgresql_partition_by="RANGE (id)",
)

attempts = Table(
    "attempts",
    metadata,
    Column("decision_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", TIMESTAMP, nullable=False),
    Column("latency_s", Double, nullable=False),
    Column("first_token_s", Double),
    Column("http_status", Integer),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Double),
    Column("error", Text),
    PrimaryKeyConstraint("decision_id", "position"),
    Index(None, "model", "started_at"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("answered_by", Text),
    Column("status", Text, nullable=False),
    Column("finished_at", TIMESTAMP, nullable=False),
    Column("latency_s", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_token_s", Double),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Double),
    Column("xid", BigInteger, nullable=False, server_default=XID),
    Index(None, "finished_at"),
    Index(None, "xid"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("decision_id", Uuid, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Double),
    Column("received_at", TIMESTAMP, nullable=False),
    Column("source", Text, nullable=False),
    Column("comment", Text),
    Column("tags", JSONB, nullable=False),
    Column("idempotency_key", Text),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Index(None, "decision_id", "id"),
    Index(
        "uq_feedback_source_idempotency_key",
        "source",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

# What each source's signals of a metric said of each arm, beside what was predicted then: sums
# of (reward − predicted quality), by which sources are held against each other.
feedback_sources = Table(
    "feedback_sources",
    metadata,
    Column("source", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("signals", Double, nullable=False),
    Column("total", Double, nullable=False),
    Column("square", Double, nullable=False),
    PrimaryKeyConstraint("source", "metric", "arm"),
)

# Sources that were found not to be believed, or that an operator spoke for. settled: whether
# the rewards that its earlier signals made follow the verdict already.
feedback_verdicts = Table(
    "feedback_verdicts",
    metadata,
    Column("source", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("decided_at", TIMESTAMP, nullable=False),
    Column("by_operator", Boolean, nullable=False),
    Column("quarantined", Boolean, nullable=False),
    Column("settled", Boolean, nullable=False),
)

# The learner's input. Numbers of a sequence are handed out before a commit, so they alone
# would let a reader pass over a row that commits late: xid tells which rows are settled.
rewards = Table(
    "rewards",
    metadata,
    Column("xid", BigInteger, nullable=False, server_default=XID),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("arm", Text, nullable=False),
    Column("reward", Double),
    Column("previous_reward", Double),
    # How precise each is, beside the most precise kind of feedback.
    Column("weight", Double, nullable=False, server_default=text("1")),
    Column("previous_weight", Double, nullable=False, server_default=text("1")),
    Column("cost_usd", Double),
    Column("latency_s", Double),
    Column("first_token_s", Double),
    Column("output_tokens", Integer),
    # Whether calls of the arm failed; a row of failed calls alone has no latency_s.
    Column("failed", Boolean),
    Column("created_at", TIMESTAMP, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("xid", "seq"),
    Index(None, "decision_id", "seq"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("policy", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False),
    Column("extractor_version", Text, nullable=False),
    Column("cursor_xid", BigInteger, nullable=False),
    Column("cursor_seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("policy", "version"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("scopes", TEXTS, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False),
    Column("hint", Text, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=NOW),
    Column("revoked_at", TIMESTAMP),
    Column("limits", JSONB, nullable=False, server_default=text("'{}'")),
    UniqueConstraint("key_sha256"),
)

# What a key or a tenant has booked in one calendar window, open reservations included.
limit_windows = Table(
    "limit_windows",
    metadata,
    Column("subject", Text, nullable=False),
    Column("span", Text, nullable=False),
    Column("starts_at", TIMESTAMP, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    PrimaryKeyConstraint("subject", "span", "starts_at"),
    Index(None, "starts_at"),
)

# What was booked before a call; settled_at is None until its outcome, or for ever after a crash.
reservations = Table(
    "reservations",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("created_at", TIMESTAMP, nullable=False),
    # subject and span of every window it is booked in, one after the other
    Column("booked", TEXTS, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("settled_at", TIMESTAMP),
    Index(None, "created_at"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", TIMESTAMP, nullable=False, server_default=NOW),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Index(None, "at"),
)

# What operators set over the file; the names are the overlay's.
live_settings = Table(
    "live_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("actor", Text, nullable=False),
    Column("updated_at", TIMESTAMP, nullable=False, server_default=NOW),
)

# Decisions, by seq and both ends included, that teach nothing until the exclusion is lifted.
learning_exclusions = Table(
    "learning_exclusions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=NOW),
    Column("lifted_at", TIMESTAMP),
)

# What any replica sees wrong now; who makes the row tells of it, and so does who removes it.
standing_alarms = Table(
    "standing_alarms",
    metadata,
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("raised_at", TIMESTAMP, nullable=False, server_default=NOW),
    Column("seen_at", TIMESTAMP, nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("kind", "subject"),
)

# Slices of models' rate limits that replicas hold, or held within the last minute.
upstream_leases = Table(
    "upstream_leases",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("granted_at", TIMESTAMP, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Index(None, "model", "granted_at"),
)
