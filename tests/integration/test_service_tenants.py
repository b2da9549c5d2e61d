"""Tenants do not see or judge each other's decisions."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest
from chain_setup import http_model
from service_process import ASK, router_config, served
from test_service_keys import LOCKED, bearer

from bandit_router.store.api_keys import ApiKeys, Scope
from simulations.faults.misbehaving import answer, misbehaving

BOTH = [Scope.ROUTE, Scope.FEEDBACK]


@pytest.mark.asyncio
async def test_a_key_can_neither_judge_nor_end_another_tenants_decision(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), server=LOCKED)
        async with served(config) as service:
            keys = ApiKeys(service.runtime.engine, os.urandom)
            _, acme = await keys.create("web", "acme", BOTH)
            _, other = await keys.create("web", "other", BOTH)
            ids = {}
            for name, clear in (("acme", acme), ("other", other)):
                got = await service.client.post("/v1/route", json=ASK, headers=bearer(clear))
                ids[name] = got.json()["decision_id"]

            async def post(path: str, clear: str, decision_id: str, **more: str) -> tuple[int, str]:
                body = {"decision_id": decision_id}
                if path == "/v1/feedback":
                    body |= {"metric": "quality", "value": 0.1}  # type: ignore[dict-item]
                else:
                    body |= {"model": "small", "latency_s": 0.1, "cost_usd": 0.1}  # type: ignore[dict-item]
                got = await service.client.post(path, json=body, headers={**bearer(clear), **more})
                text = got.text.replace(decision_id, "ID")
                return got.status_code, text

            stranger = str(uuid4())
            for path in ("/v1/feedback", "/v1/outcomes"):
                foreign = await post(path, other, ids["acme"])
                assert foreign[0] == 404
                # Word for word what is said of a decision that never was.
                assert foreign == await post(path, other, stranger)
                assert (await post(path, acme, ids["acme"]))[0] == 200
            # The same idempotency key of a key of the same name is another one.
            for clear, decision_id in ((acme, ids["acme"]), (other, ids["other"])):
                told = await post("/v1/feedback", clear, decision_id, **{"Idempotency-Key": "k"})
                assert told[0] == 200
                assert "duplicate" not in told[1] or clear == acme
