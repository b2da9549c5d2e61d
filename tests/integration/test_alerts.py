"""Alarms stand where something is wrong, and webhooks hear of them, signed and tried again."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from chain_setup import http_model
from service_process import Served, eventually, router_config, served
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.alarms import Change
from bandit_router.config import (
    AlarmKind,
    AlertConfig,
    FallbackConfig,
    FeaturesConfig,
    PolicyConfig,
)
from bandit_router.store.standing_alarms import StandingAlarms
from service import alarms
from service.alarms import AlarmBoard
from service.alerts import Alerts
from simulations.faults.misbehaving import Exchange, answer, misbehaving, refuse

FEATURES = {"features": FeaturesConfig(text="none", metadata=("task",))}
SECRET = "of the webhook"
Heard = list[tuple[str, dict[str, Any]]]


@asynccontextmanager
async def alerting(service: Served) -> AsyncIterator[None]:
    """Quick alerts in place of the service's own, whose turns are seconds apart and could fall
    between two of these."""
    runtime = service.runtime
    for own in asyncio.all_tasks():
        if own.get_name() == "alerts":
            own.cancel()
    runtime.settings = replace(runtime.settings, environ={"HOOK_SECRET": SECRET})
    quick = Alerts(runtime, AlarmBoard(runtime), every_s=0.1, waits_s=(0.01, 0.01, 0.01))
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


@asynccontextmanager
async def two_replicas_that_tell(store_url: str) -> AsyncIterator[tuple[Served, Served, Heard]]:
    """Two services on one database, with one webhook, and what it hears."""
    heard: Heard = []

    async def listening(exchange: Exchange) -> None:
        heard.append((exchange.body["event"], exchange.body["alarm"]))
        await exchange.head(204, {})

    async with misbehaving(answer) as upstream, misbehaving(listening) as hook:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        policy = PolicyConfig(budget_usd_per_request=1e-3)
        config = router_config(
            store_url, *models, policy=policy, alerts=(AlertConfig(url=hook.base_url),), **FEATURES
        )
        async with (
            served(config) as one,
            served(config) as other,
            alerting(one),
            alerting(other),
        ):
            yield one, other, heard


@pytest.mark.asyncio
async def test_what_every_replica_sees_is_told_once_and_so_is_its_end(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_replicas_that_tell(store_url) as (one, other, heard):

        async def told(event: str, kinds: set[str]) -> None:
            async def all_of_them() -> bool:
                return {alarm["kind"] for what, alarm in heard if what == event} == kinds

            await eventually(all_of_them, 30.0)

        async def idle() -> bool:
            await asyncio.sleep(0.05)
            return False

        async def learned() -> bool:
            return all(replica.runtime.router.serving.version > 0 for replica in (one, other))

        asked = await one.ask()
        await one.ended(asked.headers["x-router-decision-id"])
        # Else what is learned of it replaces the states that are put in their place below.
        await eventually(learned)
        before = [replica.runtime.router.serving for replica in (one, other)]
        with monkeypatch.context() as patched:
            # A learner that does not move while feedback waits, a debt, a change refused.
            patched.setattr(alarms, "STALL", timedelta(seconds=-1))
            patched.setattr(alarms, "changes", lambda *_: [Change(0, "quality", False, 1e4, 40)])
            for replica, serving in zip((one, other), before, strict=True):
                patched.setattr(replica.runtime.learner, "step", idle)
                pacer = replace(serving.state.pacer, account_usd=-1.0)
                state = replace(serving.state, pacer=pacer)
                replica.runtime.router.serving = replace(serving, state=state)
                replica.runtime.live.last_error = "no such file"
                replica.runtime.breakers.trip("large", "tripped by hand", 60.0)
            assert (await one.judge(asked.headers["x-router-decision-id"], 0.5)).is_success
            await told("raised", {"breaker", "budget", "configuration", "learner", "quality"})
            # Both have looked some times more since then.
            await asyncio.sleep(0.5)
        # The alarm ends with the last replica that sees it.
        one.runtime.breakers.reset("large")
        for replica, serving in zip((one, other), before, strict=True):
            replica.runtime.router.serving, replica.runtime.live.last_error = serving, None
        await told("cleared", {"budget", "configuration", "learner", "quality"})
        other.runtime.breakers.reset("large")
        await told("cleared", {"breaker", "budget", "configuration", "learner", "quality"})
        counted = Counter((event, alarm["kind"], alarm["subject"]) for event, alarm in heard)
        assert set(counted.values()) == {1}
        assert len(counted) == 10


@pytest.mark.asyncio
async def test_an_alarm_of_a_replica_that_died_ends_and_a_rival_tells_nothing_twice(
    engine: AsyncEngine,
) -> None:
    board = StandingAlarms(engine)
    seen = [("breaker", "small", "HTTP 500"), ("budget", "router", "spent")]
    turns = await asyncio.gather(*(board.see(seen, 60.0) for _ in range(8)))
    raised = [alarm.kind for turn in turns for alarm in turn.raised]
    assert sorted(raised) == ["breaker", "budget"]
    assert not any(turn.ended for turn in turns)
    # Nobody sees the breaker any more: who held it open is gone.
    await asyncio.sleep(0.2)
    turns = await asyncio.gather(*(board.see(seen[1:], 0.1) for _ in range(8)))
    ended = [(alarm.subject, alarm.evidence) for turn in turns for alarm in turn.ended]
    assert ended == [("small", "HTTP 500")]
    assert not any(turn.raised for turn in turns)


@pytest.mark.asyncio
async def test_calls_that_fail_under_the_breakers_eyes_raise_the_alarm_of_failures(
    store_url: str,
) -> None:
    # Every answer comes at the second attempt: no breaker opens, and callers see nothing of it.
    flaky = [refuse(500), answer] * 30
    async with misbehaving(*[answer] * 20, *flaky) as upstream:
        fallback = FallbackConfig(backoff_s=0.01, num_retries=1)
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, fallback=fallback, **FEATURES)
        async with served(config) as service:
            asked = 0

            async def raised() -> bool:
                nonlocal asked
                asked += 1
                assert (await service.ask(model="small")).json()["model"] == "small"
                shown = (await service.client.get("/admin/alarms")).json()["alarms"]
                return [(a["kind"], a["subject"]) for a in shown] == [("failure", "small")]

            await eventually(raised)
            # Twenty good ones, and tens of the others at most.
            assert 20 < asked <= 50
            (alarm,) = (await service.client.get("/admin/alarms")).json()["alarms"]
            assert "the rate of failed calls is higher than it was" in alarm["evidence"]
            scraped = (await service.client.get("/metrics")).text
            assert 'alarms{kind="failure"} 1.0' in scraped
