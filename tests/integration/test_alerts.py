"""Alarms stand where something is wrong, and webhooks hear of them, signed and tried again."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from chain_setup import http_model
from service_process import Served, eventually, router_config, served

from bandit_router.config import AlarmKind, AlertConfig, FeaturesConfig, PolicyConfig
from service import alarms
from service.alarms import AlarmBoard
from service.alerts import Alerts
from simulations.faults.misbehaving import Exchange, answer, misbehaving

FEATURES = {"features": FeaturesConfig(text="none", metadata=("task",))}
SECRET = "of the webhook"


@asynccontextmanager
async def alerting(service: Served) -> AsyncIterator[None]:
    """Quick alerts in place of the service's own, whose turns are seconds apart and could fall
    between two of these."""
    runtime = service.runtime
    for own in asyncio.all_tasks():
        if own.get_name() == "alerts":
            own.cancel()
    runtime.settings = replace(runtime.settings, environ={"HOOK_SECRET": SECRET})
    quick = Alerts(runtime, AlarmBoard(runtime), every_s=0.05, waits_s=(0.01, 0.01, 0.01))
    task = asyncio.create_task(quick.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_a_webhook_hears_of_an_open_breaker_and_of_its_end_signed_and_tried_again(
    store_url: str,
) -> None:
    heard: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def broken(exchange: Exchange) -> None:
        await exchange.head(500, {"content-length": "0"})

    async def listening(exchange: Exchange) -> None:
        heard.append((exchange.headers, exchange.body))
        await exchange.head(204, {})

    async with misbehaving(answer) as upstream, misbehaving(broken, broken, listening) as hook:
        alert = AlertConfig(
            url=hook.base_url, secret_env="HOOK_SECRET", kinds=frozenset({AlarmKind.BREAKER})
        )
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, alerts=(), **FEATURES)
        async with served(config) as service:
            runtime = service.runtime
            runtime.config = config.model_copy(update={"alerts": (alert,)})
            async with alerting(service):
                runtime.breakers.trip("small", "tripped by hand", 60.0)

                async def told() -> bool:
                    return bool(heard)

                await eventually(told)
                headers, body = heard[0]
                assert body["event"] == "raised"
                assert (body["alarm"]["kind"], body["alarm"]["subject"]) == ("breaker", "small")
                assert "tripped by hand" in body["alarm"]["evidence"]
                signed = headers["x-router-timestamp"].encode() + b"." + orjson.dumps(body)
                expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
                assert headers["x-router-signature"] == f"sha256={expected}"
                shown = (await service.client.get("/admin/alarms")).json()["alarms"]
                assert [(a["kind"], a["subject"]) for a in shown] == [("breaker", "small")]

                runtime.breakers.reset("small")

                async def over() -> bool:
                    return any(body["event"] == "cleared" for _, body in heard)

                await eventually(over)
                assert (await service.client.get("/admin/alarms")).json()["alarms"] == []
                # Nobody waits for a webhook, and one alarm is told once.
                assert [body["event"] for _, body in heard] == ["raised", "cleared"]


@pytest.mark.asyncio
async def test_debt_stalls_and_refused_changes_are_alarms(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        policy = PolicyConfig(budget_usd_per_request=1e-3)
        config = router_config(store_url, *models, policy=policy, **FEATURES)
        async with served(config) as service:
            runtime = service.runtime
            board = AlarmBoard(runtime)
            assert await board.look() == ()
            serving = runtime.router.serving
            pacer = replace(serving.state.pacer, account_usd=-1.0)
            runtime.router.serving = replace(serving, state=replace(serving.state, pacer=pacer))
            runtime.live.last_error = "no such file"
            found = await board.look()
            assert [alarm.kind for alarm in found] == ["budget", "configuration"]
            assert "1000 requests' worth" in found[0].evidence
            assert (await board.look())[0].since == found[0].since
            runtime.router.serving, runtime.live.last_error = serving, None

            # A learner that does not move, and feedback that waits.
            async def idle() -> bool:
                await asyncio.sleep(0.1)
                return False

            monkeypatch.setattr(runtime.learner, "step", idle)
            monkeypatch.setattr(alarms, "STALL", timedelta(seconds=-1))
            asked = await service.ask()
            await service.ended(asked.headers["x-router-decision-id"])

            async def stalled() -> bool:
                return [alarm.kind for alarm in await board.look()] == ["learner"]

            await eventually(stalled)
