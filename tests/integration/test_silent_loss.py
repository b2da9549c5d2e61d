"""A model gets worse without an error: alarm, advice, and the bad challenger goes back by itself.

And the other way about: a good challenger is found to be better, and is promoted by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from chain_setup import http_model
from service_process import Served, eventually, router_config, served

from bandit_router.config import AlertConfig, ExplorationConfig, FeaturesConfig, PolicyConfig
from simulations.faults.misbehaving import Exchange, answer, misbehaving, respond

AT_ONCE = 16
QUIET = ExplorationConfig(min_pulls_per_day=0)
SECTIONS: dict[str, Any] = {
    "features": FeaturesConfig(text="none", metadata=("task",)),
    "exploration": QUIET,
}


class World:
    """Clients who ask and judge: what an answer is worth depends on who gave it, and on when."""

    def __init__(self, service: Served, quality: Mapping[str, float]) -> None:
        self._service = service
        self._rng = random.Random(5)
        self.quality = dict(quality)

    async def ask(self) -> str:
        answered = await self._service.ask()
        assert answered.status_code == 200, answered.text
        model = answered.headers["x-router-model"]
        worth = min(max(self._rng.gauss(self.quality[model], 0.1), 0.0), 1.0)
        told = await self._service.judge(answered.headers["x-router-decision-id"], worth)
        assert told.status_code == 200, told.text
        return model

    async def ask_many(self, count: int) -> list[str]:
        models: list[str] = []
        while len(models) < count:
            models += await asyncio.gather(*(self.ask() for _ in range(AT_ONCE)))
        return models

    async def ask_until(self, look: Callable[[], Awaitable[Any]], most: int) -> Any:
        """Go on asking until something is found; it has to be within so many requests."""
        for _ in range(most // AT_ONCE):
            if found := await look():
                return found
            await self.ask_many(AT_ONCE)
        return await eventually(look)


async def got(service: Served, path: str) -> Any:
    found = await service.client.get(f"/admin{path}")
    assert found.status_code == 200, found.text
    return found.json()


async def post(service: Served, path: str, body: Any = None, status: int = 200) -> Any:
    found = await service.client.post(f"/admin/challengers{path}", json=body or {})
    assert found.status_code == status, found.text
    return found.json()


async def trial(service: Served) -> Any:
    return (await got(service, "/challengers"))["trial"]


@pytest.mark.asyncio
async def test_a_silent_loss_raises_an_alarm_and_advice_and_sends_the_bad_challenger_back(
    store_url: str,
) -> None:
    heard: list[dict[str, Any]] = []

    async def hook(exchange: Exchange) -> None:
        heard.append(exchange.body)
        await respond(200, {})(exchange)

    async with misbehaving(answer) as upstream, misbehaving(hook) as receiver:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        alerts = (AlertConfig(url=receiver.base_url),)
        config = router_config(store_url, *models, alerts=alerts, **SECTIONS)
        async with served(config) as service:
            world = World(service, {"small": 0.65, "large": 0.9})
            await world.ask_many(160)

            async def learned() -> bool:
                return bool(service.runtime.router.serving.state.rewards.sum() >= 160)

            await eventually(learned)
            assert (await got(service, "/alarms"))["alarms"] == []
            # The challenger believes for ever what is believed now: that large is the better one.
            version = service.runtime.router.serving.version
            body = {"name": "as-of-now", "snapshot": version, "share": 0.3}
            await post(service, "", body, 201)
            await post(service, "/canary")
            before = await world.ask_many(48)
            assert before.count("large") > 30
            now = await trial(service)
            assert now["stage"] == "canary"
            assert now["held"] == ""

            world.quality["large"] = 0.2  # No error, no latency, no cost: only worse answers.

            async def back() -> Any:
                found = await trial(service)
                return found if found["held"] else None

            found = await world.ask_until(back, 1_500)
            assert found["stage"] == "shadow"
            assert found["held_by_router"]
            assert "large" in found["held"] or "worse" in found["held"]

            alarms = {
                (a["kind"], a["subject"]): a for a in (await got(service, "/alarms"))["alarms"]
            }
            assert "lower than it was" in alarms["quality", "large"]["evidence"]
            assert alarms["challenger", "as-of-now"]["evidence"].startswith("it was sent back: ")
            advice = {a["kind"]: a for a in (await got(service, "/stats/advice"))["advice"]}
            assert advice["changed_quality"]["headline"] == "The quality of large changed."
            assert "Pause it" in advice["changed_quality"]["action"]
            assert "sent back to shadow" in advice["challenger_held"]["headline"]
            assert found["held"][1:] in advice["challenger_held"]["detail"]
            assert "all_well" not in advice

            newest = (await got(service, "/challengers?limit=1"))["steps"][0]
            assert newest["action"] == "challengers.rollback"
            assert newest["actor"] == "router"
            assert newest["detail"]["reason"] == found["held"]
            assert newest["detail"]["numbers"]["rewards"] > 0
            # Nothing is drawn from it any more, and the champion has left the bad model.
            after = await world.ask_many(64)
            assert after.count("large") < 20
            answered = await service.ask()
            decision = await service.decision(answered.headers["x-router-decision-id"])
            assert decision["decision"]["trial"]["share"] == 0.0
            metrics = (await service.client.get("/metrics")).text
            assert 'bandit_router_challenger_held{challenger="as-of-now"} 1.0' in metrics
            assert 'bandit_router_challenger_share{challenger="as-of-now"} 0.0' in metrics

            async def told() -> bool:
                kinds = {(m["event"], m["alarm"]["kind"], m["alarm"]["subject"]) for m in heard}
                return {
                    ("raised", "quality", "large"),
                    ("raised", "challenger", "as-of-now"),
                } <= kinds

            await eventually(told)

            # So soon after, a report of the whole trial is refused in words, not made up.
            evaluation = (await got(service, "/challengers/evaluation"))["evaluation"]
            assert evaluation["n"] > 100
            assert (evaluation["refused"] is None) == (evaluation["reward_difference"] is not None)
            # It waits to be told: neither time nor evidence bring it forward again.
            await post(service, "/abort", {"reason": "it believes what is no longer so"})
            assert await trial(service) is None


@pytest.mark.asyncio
async def test_a_better_challenger_goes_by_itself_from_shadow_to_canary_to_all_requests(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        policy = PolicyConfig(name="random")
        config = router_config(store_url, *models, policy=policy, **SECTIONS)
        async with served(config) as service:
            world = World(service, {"small": 0.95, "large": 0.15})
            body = {
                "name": "learner",
                "policy": {"name": "thompson"},
                "share": 0.5,
                "automatic": "promote",
            }
            line = (await post(service, "", body, 201))["line"]
            await asyncio.sleep(0.1)
            early = await trial(service)
            assert early["verdict"] is None or "cannot be said yet" in early["verdict"]["reason"]

            async def serves() -> bool:
                return bool(service.runtime.policy.name == line)

            await world.ask_many(256)
            report = (await got(service, "/challengers/evaluation"))["evaluation"]
            assert report["refused"] is None
            difference, (low, high) = report["reward_difference"]
            assert 0.1 < low < difference < high < 0.7
            by = {
                (e["outcome"], e["estimator"], e["method"]): e
                for e in report["estimates"]["challenger"]
            }
            assert by["reward", "dr", "confidence_sequence"]["interval"][0] > 0.2
            assert by["cost_usd", "dr", "bootstrap"]["value"] > 0.0
            await world.ask_until(serves, 2_500)
            steps = (await got(service, "/challengers"))["steps"]
            assert [(s["action"], s["actor"]) for s in steps[:2]] == [
                ("challengers.promote", "router"),
                ("challengers.canary", "router"),
            ]
            for step in steps[:2]:
                assert step["detail"]["numbers"]["low"] > -0.02
                assert "surely between" in step["detail"]["reason"]
            assert (await world.ask_many(48)).count("small") > 40
            # And back, by one command: the old champion serves again.
            await post(service, "/rollback", {"reason": "to see that it works"})
            assert service.runtime.policy.name == "random"
            assert 10 < (await world.ask_many(48)).count("small") < 38
