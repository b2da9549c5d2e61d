from __future__ import annotations

import os
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from store_samples import NOON, make_attempt, make_decision, make_outcome

from bandit_router.config import Capability, ModelConfig
from bandit_router.errors import ConfigError
from bandit_router.store.api_keys import ApiKeys, Principal, Scope
from bandit_router.store.audit import append_audit, list_audit
from bandit_router.store.decision_log import PostgresDecisionLog
from bandit_router.store.engine import check_server, database_url
from bandit_router.store.inspection_store import InspectionStore
from bandit_router.store.models_table import list_models, upsert_models
from bandit_router.types import Exploration

LATER = NOON + timedelta(minutes=10)


@pytest.mark.asyncio
async def test_pulls_looks_and_unknown_outcomes_are_counted_from_a_time_on(
    engine: AsyncEngine,
) -> None:
    floor = np.zeros(3)
    looked_at = make_decision(LATER, chosen="large", exploration=Exploration(floor, 1, 0.1))
    not_looked_at = make_decision(LATER, chosen="small", exploration=Exploration(floor, 1, 0.1))
    no_look = make_decision(LATER + timedelta(seconds=5), exploration=Exploration(floor))
    early = make_decision(NOON, chosen="large", exploration=Exploration(floor, 1, 0.1))
    unknown = make_decision(LATER)
    async with PostgresDecisionLog(engine) as log:
        for decision in (looked_at, not_looked_at, no_look, early, unknown):
            await log.record_decision(decision)
        for decision in (looked_at, not_looked_at, no_look, early):
            await log.record_outcome(make_outcome(decision, cost_usd=0.25), [])
    store = InspectionStore(engine)
    large, small = await store.pulls_since(LATER)
    assert (large.arm, large.pulls, large.cost_usd) == ("large", 1, 0.25)
    assert (small.arm, small.pulls, small.cost_usd) == ("small", 3, 0.5)
    assert small.last_pull_at == no_look.created_at
    assert await store.look_cost_usd_since(LATER) == 0.25
    assert await store.look_cost_usd_since(NOON) == 0.5
    assert await store.look_cost_usd_since(LATER + timedelta(hours=2)) == 0.0
    assert await store.unknown_outcomes(NOON, LATER + timedelta(hours=1)) == 1
    assert await store.unknown_outcomes(NOON, LATER) == 0


@pytest.mark.asyncio
async def test_a_decision_is_shown_with_all_that_followed(engine: AsyncEngine) -> None:
    decision = make_decision()
    store = InspectionStore(engine)
    assert await store.decision_detail(decision.id) is None
    async with PostgresDecisionLog(engine) as log:
        await log.record_decision(decision)
        bare = await store.decision_detail(decision.id)
        await log.record_outcome(make_outcome(decision), [make_attempt(decision)])
    full = await store.decision_detail(decision.id)
    assert bare is not None
    assert full is not None
    assert (bare.outcome, bare.attempts, bare.feedback, bare.rewards) == (None, (), (), ())
    assert bare.reward is None
    assert full.outcome == make_outcome(decision)
    assert full.attempts == (make_attempt(decision),)
    assert [(row.arm, row.cost_usd) for row in full.rewards] == [("small", 0.00021)]


@pytest.mark.asyncio
async def test_a_key_works_until_it_is_revoked_and_is_nowhere_in_clear(
    engine: AsyncEngine,
) -> None:
    keys = ApiKeys(engine, os.urandom)
    made, clear = await keys.create("app", "acme", {Scope.ROUTE, Scope.FEEDBACK})
    _, other = await keys.create("ops", "acme", [Scope.ADMIN])
    assert clear.startswith("br-")
    assert len(clear) == 46
    assert clear != other
    scopes = frozenset({Scope.ROUTE, Scope.FEEDBACK})
    assert await keys.verify(clear) == Principal(made.id, "app", "acme", scopes)
    for wrong in ("", "br-", clear[:-1], clear + "x", clear.upper(), "\ud800"):
        assert await keys.verify(wrong) is None
    async with engine.connect() as connection:
        stored = str((await connection.execute(text("SELECT * FROM api_keys"))).all())
    assert clear[7:] not in stored
    assert await keys.revoke(made.id)
    assert not await keys.revoke(made.id)
    assert await keys.verify(clear) is None
    first, second = await keys.list_all()
    assert (first.name, first.hint, first.scopes) == ("app", clear[:7], scopes)
    assert first.revoked_at is not None
    assert second.revoked_at is None


@pytest.mark.asyncio
async def test_acts_are_listed_newest_first_and_page_by_page(engine: AsyncEngine) -> None:
    for number in range(5):
        await append_audit(
            engine, actor="ops", action="freeze", subject=f"p{number}", detail={"n": number}
        )
    newest = await list_audit(engine, limit=2)
    assert [entry.subject for entry in newest] == ["p4", "p3"]
    assert newest[0].detail == {"n": 4}
    older = await list_audit(engine, before=newest[-1].id)
    assert [entry.subject for entry in older] == ["p2", "p1", "p0"]


@pytest.mark.asyncio
async def test_models_follow_the_configuration(engine: AsyncEngine) -> None:
    url = "https://api.example.com/v1"
    small = ModelConfig(name="small", base_url=url, capabilities=frozenset({Capability.TOOLS}))
    large = ModelConfig(name="large", base_url=url)
    await upsert_models(engine, [small, large])
    first = await list_models(engine)
    assert [(model.name, model.active) for model in first] == [("large", True), ("small", True)]
    assert first[1].config == small
    dearer = small.model_copy(update={"output_usd_per_million": 2.0})
    await upsert_models(engine, [dearer])
    gone, changed = await list_models(engine)
    assert (gone.active, changed.active, changed.config) == (False, True, dearer)
    assert changed.updated_at > changed.created_at == first[1].created_at
    await upsert_models(engine, [dearer])
    assert (await list_models(engine))[1] == changed


@pytest.mark.asyncio
async def test_the_servers_version_is_told(engine: AsyncEngine) -> None:
    assert (await check_server(engine)).startswith("18.")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_way_to_write_the_url_is_taken(scheme: str) -> None:
    url = database_url(f"{scheme}://u:p@h:5433/d?host=/tmp")
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.port, url.database, url.query["host"]) == ("u", 5433, "d", "/tmp")


@pytest.mark.parametrize("url", ["mysql://h/d", "router.db", "postgresql+psycopg://h/d"])
def test_other_urls_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://user:password@host:5432/database"):
        database_url(url)
