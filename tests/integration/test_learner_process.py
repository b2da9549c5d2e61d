"""The learner as a process of its own: it leads, it dies, and nothing is lost with it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain_setup import http_model
from psutil import NoSuchProcess, Process  # type: ignore[import-untyped]
from service_process import Served, eventually, leads, router_config, served, service_process
from test_admin_levers import FEATURES, post
from test_service_crash import ask, assert_state_is_the_fold, client_of, log_in, write_config

from bandit_router.config import LearnerConfig
from bandit_router.config_challengers import ChallengerConfig
from bandit_router.learner import Progress, Quarantined
from service.learner_standing import Role, Standing, heard, told
from simulations.faults.misbehaving import answer, misbehaving

APART = {"parts": {"learns_apart": True}}


async def child_of(process_id: int) -> Process:
    """The learner's process of a service, once it is there."""

    async def there() -> Process | None:
        for child in Process(process_id).children():
            with contextlib.suppress(NoSuchProcess):
                if "service.learner_process" in child.cmdline():
                    return child
        return None

    return await eventually(there)


async def gone(process: Process) -> None:
    async def ended() -> bool:
        with contextlib.suppress(NoSuchProcess):
            return bool(process.status() == "zombie")
        return True

    await eventually(ended)


async def role(client: httpx.AsyncClient) -> str:
    return str((await client.get("/health/ready")).json()["learner"])


@pytest.mark.asyncio
async def test_a_learner_that_is_killed_comes_back_and_its_state_is_the_fold_of_the_log(
    open_folder: Path,
) -> None:
    async with misbehaving(answer) as upstream:
        config = write_config(open_folder, upstream.base_url, 0.05)
        with service_process(config) as service:
            async with client_of(service) as client:
                await eventually(lambda: leads(client), within_s=20.0)
                decisions = []
                for turn in range(3):
                    for _ in range(12):
                        decisions.append(await ask(client))
                        body = {"decision_id": decisions[-1], "metric": "quality", "value": 0.5}
                        assert (await client.post("/v1/feedback", json=body)).is_success
                    if turn == 2:
                        break
                    # In the middle of its folding: rows that it has read are not written yet.
                    victim = await child_of(service.process.pid)
                    victim.kill()
                    await gone(victim)
                    # Requests are answered all the same, and health is good.
                    decisions.append(await ask(client))
                    assert (await client.get("/health/ready")).status_code == 200
                await eventually(lambda: leads(client), within_s=20.0)
                metrics = (await client.get("/metrics")).text
                assert "bandit_router_learner_restarts 2.0" in metrics
                learner = await child_of(service.process.pid)
                service.kill()
                # It dies with the service, without having been told.
                await gone(learner)
        with service_process(config):
            async with log_in(open_folder) as engine:
                await assert_state_is_the_fold(engine, config, above=1, rewards=36)


@contextlib.asynccontextmanager
async def one_apart(store_url: str, base_url: str, **sections: Any) -> AsyncIterator[Served]:
    models = (http_model("small", base_url), http_model("large", base_url))
    learner = LearnerConfig(interval_s=0.05)
    config = router_config(store_url, *models, learner=learner, **FEATURES, **sections)
    async with served(config, **APART) as service:
        yield service


async def version_above(service: Served, version: int) -> int:
    async def found() -> int | None:
        now = service.runtime.router.serving.version
        return now if now > version else None

    return await eventually(found, within_s=20.0)


async def judged(service: Served, count: int, value: float) -> None:
    """Ask and judge, until the judgement is learned from."""
    state = service.runtime.router.serving.state
    before = float(state.rewards.sum())
    for _ in range(count):
        asked = await service.ask()
        await service.judge(asked.headers["x-router-decision-id"], value)

    async def learned() -> bool:
        state = service.runtime.router.serving.state
        return float(state.rewards.sum()) == before + count

    await eventually(learned, within_s=20.0)


@pytest.mark.asyncio
async def test_another_replica_takes_over_when_a_learner_stands_still(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        one_apart(store_url, upstream.base_url) as one,
        one_apart(store_url, upstream.base_url) as other,
    ):

        def leaders() -> list[Served]:
            return [s for s in (one, other) if s.runtime.learner_standing.leads]

        async def somebody() -> bool:
            return len(leaders()) == 1

        await eventually(somebody, within_s=20.0)
        (leader,) = leaders()
        follower = other if leader is one else one
        await judged(follower, 4, 1.0)
        child, heir = leader.runtime.learner_child, follower.runtime.learner_child
        assert child is not None
        assert child.pid is not None
        assert heir is not None
        # What served before serves on, on both.
        version = await version_above(leader, 0)
        os.kill(child.pid, signal.SIGKILL)

        async def taken_over() -> bool:
            return follower.runtime.learner_standing.leads

        await eventually(taken_over, within_s=20.0)
        assert leader.runtime.router.serving.version >= version
        await judged(leader, 4, 0.0)

        async def said() -> bool:
            return follower.runtime.learner_standing.progress.rewards == 8

        await eventually(said)

        # The one that was killed is there again, and follows.
        async def back() -> bool:
            standing = leader.runtime.learner_standing
            return standing.role is Role.FOLLOWS and standing.last_error is None

        await eventually(back, within_s=20.0)
        assert child.restarts == 1
        assert heir.restarts == 0


@pytest.mark.asyncio
async def test_levers_reach_the_learner_where_it_is(store_url: str) -> None:
    challenger = ChallengerConfig(name="greedy", policy={"name": "epsilon_greedy"})
    async with (
        misbehaving(answer) as upstream,
        one_apart(store_url, upstream.base_url, challengers=(challenger,)) as service,
    ):
        await judged(service, 6, 0.75)
        new = {"name": "new", "base_url": upstream.base_url, "input_usd_per_million": 1.0}
        await post(service, "/admin/models", new, 201)
        store = service.runtime.learner_store

        async def of_three_models() -> int | None:
            # What was still under way may be folded and written before.
            written = await service.runtime.inspection.snapshots("thompson")
            return next((s.version for s in written if s.reason == "arms"), None)

        version = await eventually(of_three_models)
        asked = await service.ask(model="new")
        await service.judge(asked.headers["x-router-decision-id"], 1.0)

        async def learned_of_it() -> bool:
            return service.runtime.router.serving.state.rewards.tolist()[2] == 1.0

        await eventually(learned_of_it)
        # A challenger learns there too.
        await post(service, "/admin/challengers/start", {"name": "greedy"}, 201)
        assert service.runtime.challenge is not None
        line = service.runtime.challenge.setting.line

        async def learns() -> bool:
            record = await store.latest_snapshot(line)
            return record is not None and service.runtime.challenge is not None

        await eventually(learns)
        # Back to what was believed before the newcomer: the learner goes on from there.
        now = service.runtime.router.serving.version
        restored = await post(service, "/admin/snapshots/rollback", {"version": version})
        assert restored["version"] > version
        assert await version_above(service, now) >= restored["version"]
        rewards = service.runtime.router.serving.state.rewards.tolist()
        assert rewards[2] == 0.0
        assert sum(rewards) == 6.0
        await judged(service, 2, 0.5)
        assert service.runtime.learner_standing.last_error is None


@pytest.mark.asyncio
async def test_a_learner_that_cannot_start_is_told_of_and_requests_go_on(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.learner_child.COMMAND", ("false",))
    async with (
        misbehaving(answer) as upstream,
        one_apart(store_url, upstream.base_url) as service,
    ):

        async def told_of() -> bool:
            return service.runtime.learner_standing.last_error is not None

        await eventually(told_of)
        standing = service.runtime.learner_standing
        assert standing.role is Role.DOWN
        assert standing.last_error == "the learner's process ended with exit code 1"
        assert await role(service.client) == "down"
        assert (await service.ask()).status_code == 200
        learner = (await service.client.get("/admin/policies/thompson")).json()["learner"]
        assert learner["error"] == standing.last_error


def test_a_standing_comes_through_the_pipe_as_it_was() -> None:
    standing = Standing(
        role=Role.LEADS,
        last_error="no database",
        progress=Progress(7, (3, 9), 12, 8, 1),
        quarantine=(Quarantined("id", "small", "a feature is not finite"),),
    )
    assert heard(told(standing)) == standing
