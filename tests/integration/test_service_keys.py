"""Who may call: keys with scopes, and no stranger beyond loopback."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from chain_setup import http_model
from service_process import ASK, eventually, router_config, served
from starlette.datastructures import Headers

from bandit_router.clock import SystemClock
from bandit_router.config import ServerConfig
from bandit_router.errors import ConfigError, StoreUnavailable
from bandit_router.store.api_keys import ApiKeys, Principal, Scope
from service import principals
from service.principals import Doorkeeper
from service.run import serve
from service.settings import is_loopback
from simulations.faults.misbehaving import answer, misbehaving

LOCKED = ServerConfig(require_api_key=True)


def bearer(clear: str) -> dict[str, str]:
    return {"authorization": f"Bearer {clear}"}


@pytest.mark.asyncio
async def test_every_door_asks_for_its_scope_and_books_tenant_and_source(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), server=LOCKED)
        async with served(config) as service:
            keys = ApiKeys(service.runtime.engine, os.urandom)
            clear = {
                scope: (await keys.create(f"the {scope}", tenant, [scope]))[1]
                for scope, tenant in (
                    (Scope.ROUTE, "acme"),
                    (Scope.FEEDBACK, "acme"),
                    (Scope.ADMIN, "default"),
                )
            }
            doors = {
                ("POST", "/v1/chat/completions"): Scope.ROUTE,
                ("POST", "/v1/route"): Scope.ROUTE,
                ("POST", "/v1/outcomes"): Scope.ROUTE,
                ("GET", "/v1/models"): Scope.ROUTE,
                ("GET", "/v1/models/small"): Scope.ROUTE,
                ("POST", "/v1/feedback"): Scope.FEEDBACK,
                ("GET", "/admin/policies"): Scope.ADMIN,
                ("GET", "/admin/policies/thompson"): Scope.ADMIN,
                ("GET", "/admin/decisions/42"): Scope.ADMIN,
                ("GET", "/admin/snapshots"): Scope.ADMIN,
                ("GET", "/admin/models"): Scope.ADMIN,
            }
            for (method, path), needed in doors.items():
                for headers in ({}, bearer("br-wrong"), {"authorization": "Basic eDp5"}):
                    got = await service.client.request(method, path, headers=headers)
                    assert got.status_code == 401, path
                    assert got.json()["error"]["code"] == "invalid_api_key"
                    assert got.headers["www-authenticate"] == "Bearer"
                for scope in Scope:
                    got = await service.client.request(method, path, headers=bearer(clear[scope]))
                    assert (got.status_code == 403) == (scope is not needed), path
                    assert got.status_code != 401
            for path in ("/health/live", "/health/ready"):
                assert (await service.client.get(path)).status_code == 200

            asked = await service.client.post(
                "/v1/chat/completions", json=ASK, headers=bearer(clear[Scope.ROUTE])
            )
            decision_id = asked.headers["x-router-decision-id"]
            signal = {"decision_id": decision_id, "metric": "quality", "value": 1}
            await service.client.post(
                "/v1/feedback", json=signal, headers=bearer(clear[Scope.FEEDBACK])
            )
            found = await service.client.get(
                f"/admin/decisions/{decision_id}", headers=bearer(clear[Scope.ADMIN])
            )
            assert found.json()["decision"]["tenant"] == "acme"
            assert found.json()["feedback"][0]["feedback"]["source"] == "the feedback@acme"


@pytest.mark.asyncio
async def test_a_revoked_key_stops_working_within_seconds(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principals, "FRESH_S", 0.2)
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), server=LOCKED)
        async with served(config) as service:
            keys = ApiKeys(service.runtime.engine, os.urandom)
            made, clear = await keys.create("shop", "acme", [Scope.ROUTE])

            async def status() -> httpx.Response:
                return await service.client.get("/v1/models", headers=bearer(clear))

            assert (await status()).status_code == 200
            assert await keys.revoke(made.id)

            async def refused() -> bool:
                return (await status()).status_code == 401

            await eventually(refused)


class KeysOfAStoreThatGoesAway:
    away = False

    async def verify(self, clear: str) -> Principal | None:
        if self.away:
            raise StoreUnavailable("no database")
        return Principal(1, "shop", "acme", frozenset({Scope.ROUTE})) if clear == "br-a" else None


class TurnedClock(SystemClock):
    at_s = 1000.0

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.mark.asyncio
async def test_a_key_seen_lately_is_believed_while_the_database_is_away() -> None:
    keys, clock = KeysOfAStoreThatGoesAway(), TurnedClock()
    doorkeeper = Doorkeeper(keys, clock, require_api_key=True)  # type: ignore[arg-type]
    known, unknown = Headers(bearer("br-a")), Headers(bearer("br-b"))
    assert (await doorkeeper.admit(known, Scope.ROUTE)).tenant == "acme"
    keys.away = True
    clock.at_s += principals.BELIEVED_S - 1.0
    assert (await doorkeeper.admit(known, Scope.ROUTE)).tenant == "acme"
    with pytest.raises(StoreUnavailable):
        await doorkeeper.admit(unknown, Scope.ROUTE)
    clock.at_s += 2.0
    with pytest.raises(StoreUnavailable):
        await doorkeeper.admit(known, Scope.ROUTE)


def test_beyond_loopback_the_service_does_not_start_without_keys() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", ""):
        config = router_config(
            None, http_model("small", "http://127.0.0.1:1/v1"), server=ServerConfig(host=host)
        )
        with pytest.raises(ConfigError, match="require_api_key = true"):
            serve(config, Path("router.toml"))


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
