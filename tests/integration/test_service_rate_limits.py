"""rpm and tpm of a model hold over two replicas, and the policy knows of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from chain_setup import fallback, http_model
from service_process import router_config, served
from sqlalchemy import text

from bandit_router.store import upstream_leases
from bandit_router.store.engine import make_engine
from simulations.faults.misbehaving import answer, misbehaving

RPM = 12
ASKED = 20


@pytest.mark.asyncio
async def test_two_replicas_together_send_no_more_than_the_rpm_and_route_around_it(
    store_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        narrow = await stack.enter_async_context(misbehaving(answer))
        wide = await stack.enter_async_context(misbehaving(answer))
        config = router_config(
            store_url,
            http_model("narrow", narrow.base_url, rpm=RPM),
            http_model("wide", wide.base_url),
            # A busy machine is no failure of the model.
            fallback=fallback(attempt_timeout_s=9.0),
        )
        replicas = [await stack.enter_async_context(served(config)) for _ in range(2)]
        shown = (await replicas[0].client.get("/admin/models")).json()["models"]
        assert [model["rate_limit"] for model in shown] == [{"requests": 1, "tokens": None}, None]

        named = await asyncio.gather(
            *(replicas[n % 2].ask(model="narrow") for n in range(ASKED)),
            *(replicas[n % 2].ask() for n in range(ASKED)),
        )
        # Until the minute is over nothing is left for a second wave.
        named += await asyncio.gather(*(replicas[n % 2].ask(model="narrow") for n in range(ASKED)))
        assert 0 < len(narrow.bodies) <= RPM
        outright = [named[n] for n in (*range(ASKED), *range(2 * ASKED, 3 * ASKED))]
        assert {answered.status_code for answered in outright} == {200, 429}
        refused = next(answered for answered in outright if answered.status_code == 429)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "rpm or tpm is used up" in str(
            (await replicas[0].ended(refused.headers["x-router-decision-id"]))["attempts"]
        )

        routed = [await replicas[n % 2].ask() for n in range(4)]
        assert {answered.headers["x-router-model"] for answered in routed} == {"wide"}
        found = await replicas[0].decision(routed[0].headers["x-router-decision-id"])
        decision = found["decision"]
        assert decision["masked"] == {"narrow": "rate_limited"}
        assert decision["pmf"] == {"narrow": 0.0, "wide": 1.0}
        assert len(narrow.bodies) <= RPM
        # Held back is no failure: neither breaker nor alarm speaks of the model.
        health = (await replicas[0].client.get("/admin/models")).json()["models"][0]
        assert health["breaker"]["state"] == "closed"


@pytest.mark.asyncio
async def test_leases_of_one_minute_never_add_up_to_more_than_the_limit(store_url: str) -> None:
    engine = make_engine(store_url)
    try:
        found = await asyncio.gather(
            *(upstream_leases.lease(engine, "m", 3, 100, (10, 2**31 - 1)) for _ in range(8))
        )
        granted = [lease for lease in found if lease is not None]
        assert sum(lease.requests for lease in granted) == 10
        await upstream_leases.give_back(engine, granted[0].id, 2, 0)
        again = await upstream_leases.lease(engine, "m", 3, 100, (10, 2**31 - 1))
        assert again is not None
        assert again.requests == 2
        async with engine.begin() as connection:
            past = "UPDATE upstream_leases SET granted_at = granted_at - interval '67 seconds'"
            await connection.execute(text(past))
        later = await upstream_leases.lease(engine, "m", 30, 100, (10, 2**31 - 1))
        assert later is not None
        assert later.requests == 10
    finally:
        await engine.dispose()
