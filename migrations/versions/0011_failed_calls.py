"""Which of the learner's rows are about calls that failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rewards", sa.Column("failed", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("rewards", "failed")
