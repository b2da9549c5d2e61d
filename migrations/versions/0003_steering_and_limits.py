"""Limits with reservations, and what besides the policy shaped a decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0006"
branch_labels = None
depends_on = None

EMPTY = sa.text("'{}'")


def upgrade() -> None:
    json = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("decisions", sa.Column("influences", json, server_default=EMPTY, nullable=False))
    op.add_column("api_keys", sa.Column("limits", json, server_default=EMPTY, nullable=False))
    op.create_table(
        "limit_windows",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "span", "starts_at", name=op.f("pk_limit_windows")),
    )
    op.create_index(op.f("ix_limit_windows_starts_at"), "limit_windows", ["starts_at"])
    op.create_table(
        "reservations",
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("booked", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_reservations")),
    )
    op.create_index(op.f("ix_reservations_created_at"), "reservations", ["created_at"])


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_table("limit_windows")
    op.drop_column("api_keys", "limits")
    op.drop_column("decisions", "influences")
