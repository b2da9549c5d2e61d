"""Slices of the upstreams' rate limits, leased to replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upstream_leases",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upstream_leases")),
    )
    op.create_index(
        op.f("ix_upstream_leases_model_granted_at"),
        "upstream_leases",
        ["model", "granted_at"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_upstream_leases_model_granted_at"), table_name="upstream_leases")
    op.drop_table("upstream_leases")
