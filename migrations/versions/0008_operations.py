"""What was asked of a model, chat or another operation; and cascaded decisions by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "decisions",
        sa.Column("operation", sa.Text(), server_default=sa.text("'chat'"), nullable=False),
    )
    op.create_index(
        "ix_decisions_cascade",
        "decisions",
        ["created_at"],
        postgresql_where=sa.text("influences ? 'cascade'"),
    )


def downgrade() -> None:
    op.drop_index("ix_decisions_cascade", table_name="decisions")
    op.drop_column("decisions", "operation")
