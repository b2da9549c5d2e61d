"""The models that the configuration names, and those that it once named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.config import ModelConfig
from bandit_router.store.engine import store_errors
from bandit_router.store.rows import storable
from bandit_router.store.tables import models


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as last configured. active: whether the configuration still names it."""

    name: str
    config: ModelConfig
    active: bool
    created_at: datetime
    updated_at: datetime


async def upsert_models(engine: AsyncEngine, configured: Sequence[ModelConfig]) -> None:
    """Make the table say what the configuration says; models it dropped turn inactive."""
    # In the order of names, so that replicas that start together do not deadlock.
    values = [
        {"name": model.name, "config": storable(model.model_dump(mode="json")), "active": True}
        for model in sorted(configured, key=lambda model: model.name)
    ]
    upsert = insert(models)
    upsert = upsert.on_conflict_do_update(
        index_elements=["name"],
        set_={"config": upsert.excluded.config, "active": True, "updated_at": func.now()},
        where=(models.c.config != upsert.excluded.config) | ~models.c.active,
    )
    names = [model.name for model in configured]
    with store_errors(engine):
        async with engine.begin() as connection:
            await connection.execute(upsert, values)
            await connection.execute(
                update(models)
                .where(models.c.active, models.c.name.not_in(names))
                .values(active=False, updated_at=func.now())
            )


async def list_models(engine: AsyncEngine) -> tuple[StoredModel, ...]:
    """Every model ever configured, by name."""
    with store_errors(engine):
        async with engine.connect() as connection:
            found = (await connection.execute(select(models).order_by(models.c.name))).all()
    return tuple(
        StoredModel(row.name, ModelConfig(**row.config), row.active, row.created_at, row.updated_at)
        for row in found
    )
