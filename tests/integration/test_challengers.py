"""Challengers: in shadow asked and never followed, in canary by an exact mixture, and promoted."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from chain_setup import http_model
from service_process import Served, eventually, router_config, served

from bandit_router.config import ExplorationConfig, FeaturesConfig
from bandit_router.config_challengers import ChallengerConfig
from simulations.faults.misbehaving import answer, misbehaving

SECTIONS: dict[str, Any] = {
    "features": FeaturesConfig(text="none", metadata=("task",)),
    "exploration": ExplorationConfig(min_pulls_per_day=0),
    "challengers": (
        ChallengerConfig(name="always-large", policy={"name": "fixed", "model": "large"}),
    ),
}


async def post(service: Served, path: str, body: Any = None, status: int = 200) -> Any:
    found = await service.client.post(f"/admin/challengers{path}", json=body or {})
    assert found.status_code == status, found.text
    return found.json()


async def listed(service: Served) -> Any:
    found = await service.client.get("/admin/challengers")
    assert found.status_code == 200, found.text
    return found.json()


async def asked(service: Served, count: int = 1, **changes: Any) -> list[Any]:
    answers = await asyncio.gather(*(service.ask(**changes) for _ in range(count)))
    ids = [found.headers["x-router-decision-id"] for found in answers]
    return [await service.decision(one) for one in ids]


@pytest.mark.asyncio
async def test_a_challenger_is_asked_then_has_its_share_then_serves_and_goes_again(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, **SECTIONS)
        async with served(config) as service, served(config) as replica:
            before = await listed(service)
            assert before["trial"] is None
            assert [c["name"] for c in before["declared"]] == ["always-large"]
            await post(service, "/canary", status=409)
            await post(service, "/start", {"name": "nobody"}, 404)
            started = await post(service, "/start", {"name": "always-large"}, 201)
            line = started["line"]
            assert line.startswith("fixed~always-large-")
            await post(service, "/start", {"name": "always-large"}, 409)

            # In shadow: its pmf stands beside the champion's, and nothing else is different.
            for found in await asked(service, 6):
                trial, decision = found["decision"]["trial"], found["decision"]
                assert trial["challenger"] == line
                assert trial["pmf"] == [0.0, 1.0]
                assert trial["share"] == 0.0
                assert not trial["drew"]
                assert trial["champion_pmf"] == list(decision["pmf"].values())
                assert found["pmf_check"]["equal"], found["pmf_check"]

            async def replica_follows() -> bool:
                return replica.runtime.router.contender is not None

            await eventually(replica_follows)
            (found,) = await asked(replica)
            assert found["decision"]["trial"]["challenger"] == line

            # In canary: drawn from the mixture, which is what is logged.
            await post(service, "/canary")
            drew = 0
            for found in await asked(service, 60):
                trial, decision = found["decision"]["trial"], found["decision"]
                mixed = 0.9 * np.array(trial["champion_pmf"]) + 0.1 * np.array(trial["pmf"])
                assert np.array_equal(mixed, list(decision["pmf"].values()))
                assert decision["propensity"] == decision["pmf"][decision["model"]]
                assert found["pmf_check"]["equal"], found["pmf_check"]
                drew += trial["drew"]
                assert not trial["drew"] or decision["model"] == "large"
            assert 0 < drew < 25
            # Who names a model, or wants nothing tried, is no part of the trial.
            (found,) = await asked(service, model="small")
            assert found["decision"]["trial"] is None
            answered = await service.client.post(
                "/v1/route",
                json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
                headers={"x-router-explore": "false"},
            )
            assert (await service.decision(answered.json()["decision_id"]))["decision"][
                "trial"
            ] is None

            back = await post(service, "/shadow")
            assert back["stage"] == "shadow"
            assert back["held"] == "an operator took it back"
            (found,) = await asked(service)
            assert found["decision"]["trial"]["share"] == 0.0

            done = await post(service, "/promote", {"reason": "it is better"})
            assert done["serving"] == line
            for found in await asked(service, 5):
                assert found["decision"]["model"] == "large"
                assert found["decision"]["policy"] == line
                assert found["decision"]["trial"] is None
                assert found["pmf_check"]["equal"], found["pmf_check"]

            async def replica_serves() -> bool:
                return bool(replica.runtime.policy.name == line)

            await eventually(replica_serves)

            gone = await post(service, "/rollback", {"reason": "too dear"})
            assert gone == {"serving": "thompson", "gone": "always-large"}
            await post(service, "/rollback", status=409)

            async def learns() -> bool:
                return any(one.runtime.learner_standing.leads for one in (service, replica))

            await eventually(learns)
            told = [
                step["action"].removeprefix("challengers.")
                for step in reversed((await listed(service))["steps"])
            ]
            # An act's line comes first, and a second one where it was refused.
            assert told == [
                *("canary", "canary.failed", "start", "start.failed"),
                *("start", "start", "start.failed"),
                *("canary", "rollback", "promote", "demote", "demote", "demote.failed"),
            ]


@pytest.mark.asyncio
async def test_a_challenger_learns_from_the_same_log_and_keeps_it_when_it_is_promoted(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, **SECTIONS)
        async with served(config) as service:
            body = {"name": "bold", "policy": {"name": "linucb"}}
            line = (await post(service, "", body, 201))["line"]
            for found in await asked(service, 30):
                worth = 0.9 if found["decision"]["model"] == "large" else 0.2
                await service.judge(found["decision"]["decision_id"], worth)

            async def learned() -> bool:
                challenge = service.runtime.challenge
                assert challenge is not None
                state = challenge.contender.serving.state
                same = service.runtime.router.serving.state.rewards.sum() == state.rewards.sum()
                return bool(same and state.rewards.sum() == 30)

            await eventually(learned)
            challenge = service.runtime.challenge
            assert challenge is not None
            known = challenge.contender.serving
            assert known.state.pacer.account_usd == 0.0
            await post(service, "/promote")
            assert service.runtime.policy.name == line
            serving = service.runtime.router.serving
            assert serving.version == known.version
            assert np.array_equal(serving.state.rewards, known.state.rewards)

        # A restart keeps the champion, with what it knows.
        async with served(config) as service:
            assert service.runtime.policy.name == line
            assert service.runtime.router.serving.version >= known.version
            assert service.runtime.router.serving.state.rewards.sum() == 30


@pytest.mark.asyncio
async def test_an_old_snapshot_is_a_challenger_that_learns_no_more(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, **SECTIONS)
        async with served(config) as service:

            async def teach(count: int) -> None:
                for found in await asked(service, count):
                    await service.judge(found["decision"]["decision_id"], 0.5)

            async def version() -> int:
                return service.runtime.router.serving.version

            await teach(3)
            old = await eventually(version)
            await post(service, "", {"name": "old", "snapshot": 10_000}, 404)
            trial = await post(service, "", {"name": "old", "snapshot": old}, 201)
            assert not trial["learns"]
            challenge = service.runtime.challenge
            assert challenge is not None
            rewards = challenge.contender.serving.state.rewards
            await teach(5)

            async def champion_learned() -> bool:
                return bool(service.runtime.router.serving.state.rewards.sum() == 8)

            await eventually(champion_learned)
            assert np.array_equal(challenge.contender.serving.state.rewards, rewards)
            await post(service, "/promote")
            await teach(2)
            await asyncio.sleep(0.5)
            assert np.array_equal(service.runtime.router.serving.state.rewards, rewards)
            alarms = (await service.client.get("/admin/alarms")).json()["alarms"]
            assert alarms == []
