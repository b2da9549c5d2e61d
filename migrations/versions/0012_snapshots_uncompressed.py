"""Snapshots are stored as they are: their numbers hardly compress, and trying took most of the time
of a write."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE snapshots ALTER COLUMN payload SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("ALTER TABLE snapshots ALTER COLUMN payload SET STORAGE EXTENDED")
