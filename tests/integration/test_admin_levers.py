"""The operators' levers: models, budget, exploration, rollback, reload."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain_setup import fallback, http_model
from service_process import ASK, Served, eventually, router_config, served, service_process
from starlette.routing import Route

from bandit_router.config import FeaturesConfig, LearnerConfig, PolicyConfig, ServerConfig
from bandit_router.heads import HeadBank
from bandit_router.store.api_keys import Scope
from service.app import create_app
from simulations.faults.misbehaving import Exchange, answer, misbehaving

FEATURES = {"features": FeaturesConfig(text="none", metadata=("task",))}
TOML = """
[[models]]
name = "small"
base_url = "{base_url}"

[[models]]
name = "large"
base_url = "{base_url}"

[policy]
budget_usd_per_request = {budget}

[features]
text = "{text}"
{more}
"""


async def post(service: Served, path: str, body: Any = None, status: int = 200) -> Any:
    found = await service.client.post(path, json=body)
    assert found.status_code == status, found.text
    return found.json()


async def got(service: Served, path: str) -> Any:
    found = await service.client.get(path)
    assert found.status_code == 200, found.text
    return found.json()


async def teach(service: Served, count: int, value: float) -> list[str]:
    ids = []
    for _ in range(count):
        ids.append((await service.ask()).headers["x-router-decision-id"])
        await service.judge(ids[-1], value)
    await learned(service)
    return ids


async def learned(service: Served) -> None:
    """Until the learner has nothing left to fold."""
    progress = None

    async def still() -> bool:
        nonlocal progress
        before, progress = progress, service.runtime.learner.progress
        await asyncio.sleep(0.6)
        return before == progress and service.runtime.learner_standing.leads

    await eventually(still)


def weights(service: Served, name: str) -> list[float]:
    state = service.runtime.router.serving.state
    assert isinstance(state.policy, HeadBank)
    found: list[float] = state.policy.means[service.runtime.problem.arms.index(name)].tolist()
    return found


@pytest.mark.asyncio
async def test_models_come_and_go_without_a_restart_and_the_others_know_what_they_knew(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        config = router_config(store_url, *models, **FEATURES)
        async with served(config) as service, served(config) as replica:
            await teach(service, 12, 0.8)
            before = weights(service, "small")
            new = {"name": "lab/new:1", "base_url": upstream.base_url, "input_usd_per_million": 1.0}
            made = await post(service, "/admin/models", new, 201)
            assert made["name"] == "lab/new:1"
            await post(service, "/admin/models", new, 409)
            assert service.runtime.problem.arms == ("small", "large", "lab/new:1")
            assert weights(service, "small") == before
            asked = await service.ask(model="lab/new:1")
            assert asked.headers["x-router-model"] == "lab/new:1"

            async def follows() -> bool:
                return "lab/new:1" in replica.runtime.models

            await eventually(follows)
            assert (await replica.ask(model="lab/new:1")).status_code == 200
            await learned(service)
            assert weights(service, "small") == before
            # What was decided before and after is audited all the same.
            last = await service.ask()
            found = await service.ended(last.headers["x-router-decision-id"])
            assert found["pmf_check"]["equal"], found["pmf_check"]

            await post(service, "/admin/models/lab/new:1/pause")
            for _ in range(6):
                found = await service.decision(
                    (await service.ask()).headers["x-router-decision-id"]
                )
                assert found["decision"]["masked"] == {"lab/new:1": "paused"}
            await post(service, "/admin/models/small/pause")
            refused = await post(service, "/admin/models/large/pause", status=409)
            assert "no model would be left" in refused["error"]["message"]
            await post(service, "/admin/models/small/resume")
            await post(service, "/admin/models/lab/new:1/retire")
            assert (await service.ask(model="lab/new:1")).status_code == 404
            assert weights(service, "small") == before
            await post(service, "/admin/models/nobody/retire", status=404)
            await post(service, "/admin/models/large/retire")
        # A restart keeps what was set.
        async with served(config) as service:
            assert tuple(service.runtime.models) == ("small",)
            await post(service, "/admin/models/large/resume", status=404)
            await post(service, "/admin/models", {**new, "name": "large"}, 201)
            assert tuple(service.runtime.models) == ("small", "large")


@pytest.mark.asyncio
async def test_a_request_under_way_finishes_on_the_model_that_is_retired_meanwhile(
    store_url: str,
) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        asked.set()
        await released.wait()
        await answer(exchange)

    async with misbehaving(slow) as upstream, misbehaving(answer) as other:
        models = (http_model("small", upstream.base_url), http_model("large", other.base_url))
        patient = fallback(attempt_timeout_s=9.0)
        config = router_config(store_url, *models, fallback=patient, **FEATURES)
        async with served(config) as service:
            asking = asyncio.create_task(service.ask(model="small"))
            async with asyncio.timeout(10.0):
                await asked.wait()
            await post(service, "/admin/models/small/retire")
            assert tuple(service.runtime.models) == ("large",)
            released.set()
            done = await asking
            assert (done.status_code, done.headers["x-router-model"]) == (200, "small")


@pytest.mark.asyncio
async def test_what_the_network_may_not_add(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), **FEATURES)
        async with served(config) as service:
            base = {"name": "x", "base_url": upstream.base_url}
            for wrong in (
                {**base, "api_key_env": "DATABASE_URL"},
                {**base, "provider": "llama_cpp", "local": True, "path": "/etc/passwd"},
                {**base, "base_url": "file:///etc/passwd"},
                {**base, "nonsense": 1},
                {**base, "name": "../../x y"},
            ):
                await post(service, "/admin/models", wrong, 422)
            # A key that is not in the environment: refused with the reason, nothing is stored.
            refused = await post(
                service, "/admin/models", {**base, "api_key_env": "X_API_KEY"}, 409
            )
            assert "X_API_KEY" in refused["error"]["message"]
            assert tuple(service.runtime.models) == ("small",)
            assert (await got(service, "/admin/live"))["models"] == {}


@pytest.mark.asyncio
async def test_frozen_it_chooses_what_looks_best_and_the_log_proves_it(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        async with served(router_config(store_url, *models, **FEATURES)) as service:
            await teach(service, 12, 0.8)
            await post(service, "/admin/exploration/freeze")
            assert (await got(service, "/admin/live"))["frozen"] is True
            for _ in range(4):
                asked = await service.ask()
                found = await service.ended(asked.headers["x-router-decision-id"])
                assert found["decision"]["propensity"] == 1.0
                assert found["why"]["best"] == found["decision"]["model"]
                assert found["pmf_check"]["equal"]
                assert "frozen" in found["why"]["sentence"]
            await post(service, "/admin/exploration/unfreeze")
            asked = await service.ask()
            found = await service.ended(asked.headers["x-router-decision-id"])
            assert found["decision"]["propensity"] < 1.0


@pytest.mark.asyncio
async def test_rollback_forgets_what_came_since_also_when_fitted_anew_and_can_be_undone(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        async with served(router_config(store_url, *models, **FEATURES)) as service:
            await teach(service, 12, 0.9)
            good = service.runtime.router.serving
            quality = [weights(service, name)[0] for name in ("small", "large")]
            await asyncio.sleep(0.05)
            poisoned = await teach(service, 30, 0.0)
            bad = service.runtime.router.serving
            assert sum(weights(service, n)[0] for n in ("small", "large")) < sum(quality) - 0.3

            done = await post(
                service, "/admin/snapshots/rollback", {"version": good.version, "reason": "poison"}
            )
            assert done["excluded_decisions"] == 30

            async def back() -> bool:
                return service.runtime.router.serving.version >= done["version"]

            await eventually(back)
            await learned(service)
            assert [weights(service, name)[0] for name in ("small", "large")] == quality
            # More feedback on what is left out changes nothing, and a fit from the log agrees.
            await service.judge(poisoned[0], 0.1)
            await learned(service)
            assert service.runtime.router.serving.state.rewards.sum() == 12
            rows = await service.runtime.learner_store.refit_rows(1000)
            assert len(rows.observations) == 12

            undone = await post(
                service,
                "/admin/snapshots/rollback",
                {"version": bad.version, "keep_evidence": True},
            )
            assert undone["excluded_decisions"] == 0
            await learned(service)
            assert service.runtime.router.serving.state.rewards.sum() == 42
            await post(service, "/admin/snapshots/rollback", {"version": 10**9}, 404)


@pytest.mark.asyncio
async def test_rollbacks_under_traffic_each_succeed_and_learning_goes_on(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        # The learner writes as often as it can, so that it and the operators want one version.
        config = router_config(
            store_url, *models, learner=LearnerConfig(interval_s=0.05), **FEATURES
        )
        async with served(config) as service:
            await teach(service, 6, 0.8)
            good = service.runtime.router.serving.version
            stop = asyncio.Event()
            judged = 0

            async def traffic() -> None:
                nonlocal judged
                while not stop.is_set():
                    asked = await service.ask()
                    await service.judge(asked.headers["x-router-decision-id"], 0.5)
                    judged += 1

            clients = [asyncio.create_task(traffic()) for _ in range(4)]
            versions = []
            for _ in range(12):
                # Two operators at once.
                both = await asyncio.gather(
                    *(post(service, "/admin/snapshots/rollback", {"version": good}) for _ in "ab")
                )
                versions += [done["version"] for done in both]
                assert all(done["version"] == done["was"] + 1 for done in both)
            before = judged
            stop.set()
            await asyncio.gather(*clients)
            assert len(set(versions)) == 24
            assert before > 12
            last = await teach(service, 3, 0.9)
            assert len(last) == 3

            async def newest_serves() -> bool:
                return service.runtime.router.serving.version > max(versions)

            await eventually(newest_serves)
            assert service.runtime.learner_standing.last_error is None


@pytest.mark.asyncio
async def test_the_budget_is_edited_while_it_runs(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        policy = PolicyConfig(budget_usd_per_request=0.01)
        config = router_config(store_url, *models, policy=policy, **FEATURES)
        async with served(config) as service:
            await teach(service, 12, 0.8)
            before = weights(service, "small")
            changed = await service.client.put("/admin/budget", json={"usd_per_request": 1e-6})
            assert changed.json()["usd_per_request"] == 1e-6
            # Both cost far more than that: a dollar becomes as dear as it gets.
            assert changed.json()["price_of_dollar"] > 0.0
            assert weights(service, "small") == before
            assert (await service.client.put("/admin/budget", json={})).status_code == 422
            # Stored, this would come back as an integer that no JSON writer takes.
            absurd = await service.client.put("/admin/budget", json={"usd_per_request": 1e307})
            assert absurd.status_code == 422
            nothing = await service.client.put("/admin/budget", json={"usd_per_request": None})
            assert nothing.json()["price_of_dollar"] == 0.0
            reset = await service.client.delete("/admin/budget")
            assert reset.json()["usd_per_request"] == 0.01


def test_the_file_is_read_again_on_hangup_or_call_and_a_bad_one_changes_nothing(
    open_folder: Path, store_url: str
) -> None:
    asyncio.run(_reloads(open_folder, store_url))


async def limits_follow(client: httpx.AsyncClient, write: Callable[..., None]) -> None:
    """Limits are the new file's at once, and gone with it."""
    write(budget=0.03, more="[tenants.default]\nlimits = {requests_per_month = 1}")
    changed = (await client.post("/admin/reload")).json()
    assert changed == {"changed": ["tenants"]}
    asked = [await client.post("/v1/chat/completions", json=ASK) for _ in range(2)]
    assert [one.status_code for one in asked] == [200, 429]
    write(budget=0.03)
    assert (await client.post("/admin/reload")).json() == {"changed": ["tenants"]}
    assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def _reloads(folder: Path, url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = folder / "router.toml"

        def write(**changes: Any) -> None:
            values = {
                "base_url": upstream.base_url,
                "budget": 0.01,
                "text": "none",
                "more": "",
                **changes,
            }
            config.write_text(TOML.format(**values))

        write()
        with service_process(config, DATABASE_URL=url) as service:
            async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:

                async def budget() -> Any:
                    return (await client.get("/admin/budget")).json()["usd_per_request"]

                assert await budget() == 0.01
                assert (await client.post("/admin/reload")).json() == {"changed": []}
                write(budget=0.02)
                service.process.send_signal(signal.SIGHUP)

                async def heard() -> bool:
                    return bool(await budget() == 0.02)

                await eventually(heard)
                write(budget=0.03)
                assert (await client.post("/admin/reload")).json() == {"changed": ["policy"]}
                assert await budget() == 0.03
                write(budget='"a lot"')
                refused = await client.post("/admin/reload")
                assert refused.status_code == 409
                assert "router.toml:" in refused.json()["error"]["message"]
                write(budget=0.04, text="hashed")
                refused = await client.post("/admin/reload")
                assert refused.status_code == 409
                assert "features cannot change" in refused.json()["error"]["message"]
                # Valid as a file; that it cannot be taken up is found out late.
                check = '{ kind = "python", function = "nowhere_at_all:good" }'
                write(budget=0.05, more=f"[cascades.careful]\nchecks = [{check}]")
                refused = await client.post("/admin/reload")
                assert refused.status_code == 409
                assert "nowhere_at_all" in refused.json()["error"]["message"]
                careful = {**ASK, "router": {"cascade": "careful"}}
                unknown = await client.post("/v1/chat/completions", json=careful)
                assert unknown.status_code == 422
                service.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.3)
                assert await budget() == 0.03
                assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
                await limits_follow(client, write)
                audit = (await client.get("/admin/audit")).json()["audit"]
                assert [e["action"] for e in audit].count("reload.failed") == 3


@pytest.mark.asyncio
async def test_every_operators_door_is_refused_without_the_scope_and_every_act_written_down(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        locked = ServerConfig(require_api_key=True)
        async with served(router_config(store_url, *models, server=locked, **FEATURES)) as service:
            keys = service.runtime.keys
            _, weak = await keys.create("weak", "default", [Scope.ROUTE, Scope.FEEDBACK])
            _, strong = await keys.create("strong", "default", [Scope.ADMIN])
            _, theirs = await keys.create("theirs", "acme", [Scope.ADMIN])
            doors = admin_doors(service)
            described = (await service.client.get("/openapi.json")).json()["paths"]
            # The application's own table: a door that is left out of the documentation counts.
            assert {path for _, path in doors} == {p for p in described if p.startswith("/admin")}
            doors = [
                (
                    method,
                    path.replace("{name}", "large")
                    .replace("{key_id}", "1")
                    .replace("{source}", "somebody"),
                )
                for method, path in doors
            ]
            assert len(doors) > 25
            silent = {("POST", "/admin/what-if")}
            acts = {door for door in doors if door[0] != "GET"} - silent
            for method, path in [*doors, ("GET", "/metrics")]:
                tried = [({}, 401), (bearer(weak), 403), (bearer("br-unknown"), 401)]
                if (method, path) in acts:
                    # Another tenant's administrator, and another page with the right key.
                    other_page = {**bearer(strong), "origin": "https://elsewhere.example"}
                    tried += [(bearer(theirs), 403), (other_page, 403)]
                for headers, status in tried:
                    refused = await service.client.request(method, path, headers=headers, json={})
                    assert refused.status_code == status, (method, path, refused.text)
            assert await got_audit(service, strong) == []
            bodies: dict[str, Any] = {
                "/admin/keys": {"name": "new"},
                "/admin/budget": {"usd_per_request": 0.5},
                "/admin/models": {"name": "new", "base_url": upstream.base_url},
                "/admin/challengers": {"name": "new"},
                "/admin/challengers/start": {"name": "nobody"},
                "/admin/snapshots/rollback": {"version": 1},
                "/admin/feedback/sources/somebody": {"quarantined": True, "reason": "a bot"},
            }
            for method, path in sorted(acts):
                count = len(await got_audit(service, strong))
                await service.client.request(
                    method, path, headers=bearer(strong), json=bodies.get(path, {})
                )
                entries = await got_audit(service, strong)
                assert len(entries) > count, (method, path)
                assert entries[0]["actor"] == "strong"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def admin_doors(service: Served) -> list[tuple[str, str]]:
    """Method and path of everything under /admin, documented or not."""

    def every(routes: Sequence[Any]) -> Iterator[Route]:
        for route in routes:
            if isinstance(route, Route):
                yield route
            elif (included := getattr(route, "original_router", None)) is not None:
                yield from every(included.routes)

    return [
        (method, route.path.replace(":path}", "}"))
        for route in every(create_app(service.runtime).routes)
        if route.path.startswith("/admin")
        for method in (route.methods or set()) - {"HEAD"}
    ]


async def got_audit(service: Served, key: str) -> list[dict[str, Any]]:
    found = await service.client.get("/admin/audit", params={"limit": 1000}, headers=bearer(key))
    entries: list[dict[str, Any]] = found.json()["audit"]
    return entries
