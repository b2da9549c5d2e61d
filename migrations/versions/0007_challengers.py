"""What a challenger on trial would have done, beside each decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("trial", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("decisions", "trial")
