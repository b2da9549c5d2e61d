"""How alembic reaches the database: over the connection that ``store.migrate`` hands in."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from bandit_router.store.partitions import is_partition
from bandit_router.store.rollup_tables import metadata


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave out the days of ``decisions``: they come and go without migrations."""
    return not (kind == "table" and name is not None and is_partition(name))


def run(connection: Connection) -> None:
    """Run the asked-for migration inside one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_in = context.config.attributes.get("connection")
if handed_in is None:
    raise SystemExit("run migrations with: bandit-router migrate")
run(handed_in)
