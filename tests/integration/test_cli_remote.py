"""The operators' commands against a running router, and the guard against other web pages."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from chain_setup import http_model
from service_process import ASK, router_config, served

from bandit_router.cli import run
from bandit_router.config import FeaturesConfig, ServerConfig
from bandit_router.config_challengers import ChallengerConfig
from bandit_router.store.api_keys import Scope
from simulations.faults.misbehaving import answer, misbehaving

FEATURES = {"features": FeaturesConfig(text="none", metadata=("task",))}


class Shell:
    """Runs commands beside the service, and hands back what they print."""

    def __init__(self, url: str, capture: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capture = capture

    async def __call__(self, *words: str, code: int = 0) -> str:
        found = await asyncio.to_thread(run, [*words, "--url", self._url])
        printed = self._capture.readouterr()
        assert found == code, printed.err
        return printed.out if code == 0 else printed.err


@pytest.mark.asyncio
async def test_an_operator_sees_and_steers_from_the_command_line(
    store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        async with served(router_config(store_url, *models, **FEATURES)) as service:
            shell = Shell(service.url, capsys)
            ids = [(await service.ask()).headers["x-router-decision-id"] for _ in range(3)]
            await service.judge(ids[0], 0.25)
            for made in ids:
                await service.ended(made)
            shown = await shell("decisions", "tail")
            assert [shown.index(made) for made in ids] == sorted(shown.index(i) for i in ids)
            assert "0.250" in shown
            lines = (await shell("decisions", "tail", "-n", "2", "--json")).splitlines()
            assert [json.loads(line)["decision_id"] for line in lines] == ids[1:]

            why = await shell("explain", ids[0])
            assert "is expected to reach quality" in why
            assert "pmf computed again: equals the logged one" in why
            assert json.loads(await shell("explain", ids[0], "--json"))["reward"] == 0.25
            assert "decision" in await shell("explain", "nonsense", code=2)

            shown = await shell("policies", "show", "--coefficients", "3")
            assert "small" in shown
            assert "bias" in shown

            await shell("models", "add", "third", "--base-url", upstream.base_url)
            assert "third" in service.runtime.models
            await shell("models", "pause", "third")
            assert "paused" in await shell("models", "list")
            await shell("models", "resume", "third")
            assert not service.runtime.models["third"].paused
            await shell("models", "retire", "third")
            assert "third" not in service.runtime.models
            assert "no model 'third'" in await shell("models", "retire", "third", code=2)

            found = json.loads(await shell("snapshots", "list", "--json"))["snapshots"]
            last, first = found[0]["version"], found[-1]["version"]
            assert "small" in await shell("snapshots", "diff", str(first), str(last))
            assert "serves again" in await shell("snapshots", "rollback", str(first))
            assert "without a file" in await shell("reload", code=2)
        assert "no router answers" in await shell("models", "list", code=2)


@pytest.mark.asyncio
async def test_the_key_comes_from_the_environment(
    store_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with misbehaving(answer) as upstream:
        locked = ServerConfig(require_api_key=True)
        config = router_config(
            store_url, http_model("small", upstream.base_url), server=locked, **FEATURES
        )
        async with served(config) as service:
            shell = Shell(service.url, capsys)
            monkeypatch.delenv("BANDIT_ROUTER_API_KEY", raising=False)
            assert "BANDIT_ROUTER_API_KEY" in await shell("models", "list", code=2)
            _, clear = await service.runtime.keys.create("ops", "default", [Scope.ADMIN])
            monkeypatch.setenv("BANDIT_ROUTER_API_KEY", clear)
            assert "small" in await shell("models", "list")


@pytest.mark.asyncio
async def test_other_web_pages_can_neither_read_nor_change_anything(store_url: str) -> None:
    async with misbehaving(answer) as upstream:
        config = router_config(store_url, http_model("small", upstream.base_url), **FEATURES)
        async with served(config) as service:
            port = service.url.rsplit(":", 1)[1]

            async def status(method: str, path: str, **headers: str) -> tuple[int, Any]:
                body = None if method == "GET" else ASK
                got = await service.client.request(method, path, headers=headers, json=body)
                return got.status_code, got.json().get("error", {}).get("code")

            # A name bound to this address anew.
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[x"):
                for method, path in (
                    ("GET", "/admin/decisions"),
                    ("POST", "/admin/exploration/freeze"),
                    ("POST", "/v1/chat/completions"),
                ):
                    assert await status(method, path, host=host) == (403, "wrong_host")
            # Another page, and one without an origin of its own.
            for origin in ("https://evil.example", "null", f"http://127.0.0.1:{int(port) + 1}"):
                for path in ("/admin/exploration/freeze", "/v1/chat/completions"):
                    assert await status("POST", path, origin=origin) == (403, "wrong_origin")
            assert service.runtime.live.overlay.frozen is False
            own = f"http://127.0.0.1:{port}"
            assert (await status("POST", "/v1/chat/completions", origin=own))[0] == 200
            for host in ("localhost", f"localhost:{port}", "[::1]", f"127.0.0.1:{port}"):
                assert (await status("GET", "/admin/models", host=host))[0] == 200


@pytest.mark.asyncio
async def test_with_keys_the_operators_doors_still_ask_where_a_page_comes_from(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        locked = ServerConfig(require_api_key=True)
        config = router_config(
            store_url, http_model("small", upstream.base_url), server=locked, **FEATURES
        )
        async with served(config) as service:
            _, clear = await service.runtime.keys.create("all", "default", list(Scope))
            key = {"authorization": f"Bearer {clear}"}
            elsewhere = {**key, "origin": "https://evil.example"}
            refused = await service.client.post("/admin/exploration/freeze", headers=elsewhere)
            assert refused.json()["error"]["code"] == "wrong_origin"
            # A key is never sent unasked: an application's own page may call, by any name.
            named = {**elsewhere, "host": "router.example.com"}
            asked = await service.client.post("/v1/chat/completions", headers=named, json=ASK)
            assert asked.status_code == 200


@pytest.mark.asyncio
async def test_a_challenger_is_walked_through_its_trial_from_the_command_line(
    store_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with misbehaving(answer) as upstream:
        models = (http_model("small", upstream.base_url), http_model("large", upstream.base_url))
        declared = ChallengerConfig(name="large-only", policy={"name": "fixed", "model": "large"})
        config = router_config(store_url, *models, challengers=(declared,), **FEATURES)
        async with served(config) as service:
            shell = Shell(service.url, capsys)
            shown = await shell("challengers", "list")
            assert "serving: thompson" in shown
            assert "on trial: nobody; declared: large-only" in shown
            assert "is in shadow, as fixed~large-only-" in await shell(
                "challengers", "start", "large-only"
            )
            assert "one at a time" in await shell("challengers", "start", "large-only", code=2)
            assert "chooses for 10 %" in await shell("challengers", "canary", "--reason", "try it")
            shown = await shell("challengers", "list")
            assert "on trial: large-only, in canary, 10 % of requests" in shown
            assert "try it" in shown
            assert "back in shadow" in await shell("challengers", "shadow")
            assert "fixed~large-only-" in await shell("challengers", "promote")
            assert "thompson serves again" in await shell("challengers", "rollback")
            file = tmp_path / "it.json"
            file.write_text('{"name": "free", "exploration": {"floor": 0.05}}')
            assert "'free' is in shadow" in await shell("challengers", "start", "--file", str(file))
            found = json.loads(await shell("challengers", "list", "--json"))
            assert found["trial"]["challenger"]["exploration"] == {"floor": 0.05}
            assert "of 'free' has ended" in await shell("challengers", "abort")
            assert "one of the two" in await shell("challengers", "start", code=2)
