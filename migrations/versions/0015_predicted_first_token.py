"""What is predicted of each model's first token, beside its latency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "decisions",
        sa.Column("predicted_first_token_s", postgresql.ARRAY(sa.Double()), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("decisions", "predicted_first_token_s")
