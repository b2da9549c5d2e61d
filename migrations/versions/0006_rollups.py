"""Sums over the log for dashboards, and which transaction wrote a decision or an outcome."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollup_bins",
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bin", sa.SmallInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "width_s", "bucket", "tenant", "model", "kind", "bin", name=op.f("pk_rollup_bins")
        ),
    )
    op.create_table(
        "rollup_cursor",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_cursor")),
    )
    op.create_table(
        "rollup_models",
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("considered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("eligible", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("pmf", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("predicted_cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("predicted_quality", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("exploration_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("decisions", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("escalations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("looks", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("entropy", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "chosen_predicted_cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("outcomes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("fallbacks", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancellations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("look_cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("answers", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("retries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("costed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("costed_predicted_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("latency_s", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_token_s", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rewards", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reward_sum", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("low_rewards", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rewarded_predicted", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "width_s", "bucket", "tenant", "mode", "model", name=op.f("pk_rollup_models")
        ),
    )
    op.create_table(
        "rollup_segment_names",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("segment", name=op.f("pk_rollup_segment_names")),
    )
    op.create_table(
        "rollup_segments",
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("decisions", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("answers", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("rewards", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reward_sum", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("low_rewards", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint(
            "width_s", "bucket", "tenant", "segment", "model", name=op.f("pk_rollup_segments")
        ),
    )
    op.add_column(
        "decisions",
        sa.Column(
            "xid",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
    )
    op.create_index(op.f("ix_decisions_xid"), "decisions", ["xid"], unique=False)
    op.add_column(
        "outcomes",
        sa.Column(
            "xid",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
    )
    op.create_index(op.f("ix_outcomes_xid"), "outcomes", ["xid"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_outcomes_xid"), table_name="outcomes")
    op.drop_column("outcomes", "xid")
    op.drop_index(op.f("ix_decisions_xid"), table_name="decisions")
    op.drop_column("decisions", "xid")
    op.drop_table("rollup_segments")
    op.drop_table("rollup_segment_names")
    op.drop_table("rollup_models")
    op.drop_table("rollup_cursor")
    op.drop_table("rollup_bins")
