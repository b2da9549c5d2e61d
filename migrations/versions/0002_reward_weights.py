"""How precise a reward is, and how far a source of feedback is believed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("weight", "previous_weight"):
        op.add_column(
            "rewards",
            sa.Column(name, sa.Double(), server_default=sa.text("1"), nullable=False),
        )
    op.add_column("rewards", sa.Column("first_token_s", sa.Double(), nullable=True))
    op.create_table(
        "feedback_sources",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("signals", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("square", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source", "metric", "arm", name=op.f("pk_feedback_sources")),
    )
    op.create_table(
        "feedback_verdicts",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_operator", sa.Boolean(), nullable=False),
        sa.Column("quarantined", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_feedback_verdicts")),
    )


def downgrade() -> None:
    op.drop_table("feedback_verdicts")
    op.drop_table("feedback_sources")
    for name in ("first_token_s", "previous_weight", "weight"):
        op.drop_column("rewards", name)
