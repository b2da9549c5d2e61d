"""Which alarms stand over all replicas, so that one of them tells of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "standing_alarms",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("raised_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_standing_alarms")),
    )


def downgrade() -> None:
    op.drop_table("standing_alarms")
