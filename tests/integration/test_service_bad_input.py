"""Whatever callers send: a 4xx that says what to do, and the service answers the next one."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from chain_setup import http_model
from service_process import ASK, Served, router_config, served

from bandit_router.config import RewardConfig
from simulations.faults.misbehaving import answer, misbehaving

CHAT, ROUTE, FEEDBACK, OUTCOMES = (
    "/v1/chat/completions",
    "/v1/route",
    "/v1/feedback",
    "/v1/outcomes",
)
NOBODY = "01890000-0000-7000-8000-000000000001"
HELLO = [{"role": "user", "content": "Hello"}]
JSON = {"content-type": "application/json"}
# Replaced by the id of a decision that exists.
KNOWN = "known"


def chat(**changes: Any) -> dict[str, Any]:
    body = {**ASK, **changes}
    return {name: value for name, value in body.items() if value is not ...}


def signal(**changes: Any) -> dict[str, Any]:
    body = {"decision_id": KNOWN, "metric": "quality", "value": 0.5, **changes}
    return {name: value for name, value in body.items() if value is not ...}


def ended(**changes: Any) -> dict[str, Any]:
    body = {"decision_id": KNOWN, "model": "small", "latency_s": 1.0, "cost_usd": 0.1, **changes}
    return {name: value for name, value in body.items() if value is not ...}


DEEP = b'{"a":' * 200 + b"1" + b"}" * 200
DEEPER = b"[" * 100_000
BIG = b'{"model": "auto", "messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 10_000_000)
# door, body, status, what the message or its param must name
TABLE: list[tuple[str, Any, int, str]] = [
    (CHAT, b"", 400, "empty"),
    (CHAT, b"{", 400, "not valid JSON"),
    (CHAT, b'{"model": "auto", "messages": [], "temperature": NaN}', 400, "NaN"),
    (CHAT, b'{"model": "auto", "messages": [], "temperature": 1e999}', 400, "infinity"),
    (CHAT, b'{"model": "\xff\xfe"}', 400, "UTF-8"),
    (CHAT, b'"hello"', 422, "object"),
    (CHAT, b"[]", 422, "object"),
    (CHAT, DEEP, 400, "nested"),
    (CHAT, DEEPER, 400, "depth"),
    (CHAT, BIG, 413, "max_body_bytes"),
    (CHAT, chat(model=...), 422, "auto"),
    (CHAT, chat(model=7), 422, "auto"),
    (CHAT, chat(model="nobody"), 404, "small"),
    (CHAT, chat(models=["nobody"]), 404, "small"),
    (CHAT, chat(models=[]), 422, "models"),
    (CHAT, chat(models="small"), 422, "models"),
    (CHAT, chat(models=[["small"]]), 422, "models"),
    (CHAT, chat(model="small", models=["large"]), 422, "models"),
    (CHAT, chat(model="small", models=["small", "nobody"]), 404, "nobody"),
    (CHAT, chat(messages=...), 422, "messages"),
    (CHAT, chat(messages=[]), 422, "messages"),
    (CHAT, chat(messages="hello"), 422, "messages"),
    (CHAT, chat(messages=["hello"]), 422, "messages[0]"),
    (CHAT, chat(messages=[{"content": "hello"}]), 422, "role"),
    (CHAT, chat(messages=[{"role": "user", "content": 7}]), 422, "content"),
    (CHAT, chat(messages=[{"role": "user", "content": ["hello"]}]), 422, "content"),
    (CHAT, chat(stream="yes"), 422, "stream"),
    (CHAT, chat(metadata=[]), 422, "metadata"),
    (CHAT, chat(metadata={"task": 7}), 422, "metadata.task"),
    (CHAT, chat(metadata={"task": "x" * 513}), 422, "512"),
    (CHAT, chat(metadata={f"k{n}": "" for n in range(17)}), 422, "16"),
    (CHAT, chat(tools={}), 422, "tools"),
    (CHAT, chat(response_format="json"), 422, "response_format"),
    (CHAT, chat(messages=[{"role": "user", "content": "x" * 900_000}]), 400, "shorten"),
    (CHAT, chat(tools=[{"type": "function"}]), 400, "capability"),
    (CHAT, chat(modalities=["text", "audio"]), 400, "capability"),
    (ROUTE, b"{", 400, "not valid JSON"),
    (ROUTE, chat(model="nobody"), 404, "small"),
    (ROUTE, BIG, 413, "max_body_bytes"),
    (FEEDBACK, b"{", 400, "not valid JSON"),
    (FEEDBACK, b'{"decision_id": "known", "metric": "quality", "value": NaN}', 400, "NaN"),
    (FEEDBACK, BIG, 413, "max_body_bytes"),
    (FEEDBACK, signal(metric="beauty"), 422, "quality"),
    (FEEDBACK, signal(metric="beauty", value=None), 422, "quality"),
    (FEEDBACK, signal(value=1.5), 422, "0 to 1"),
    (FEEDBACK, signal(value=10**400), 400, "infinity"),
    (FEEDBACK, signal(value=10**30), 422, "0 to 1"),
    (FEEDBACK, signal(value="0.5"), 422, "number"),
    (FEEDBACK, signal(value=True), 422, "number"),
    (FEEDBACK, signal(metric="solved", value=0.5), 422, "true or false"),
    (FEEDBACK, signal(value=...), 422, "value"),
    (FEEDBACK, signal(verdict="good"), 422, "verdict"),
    (FEEDBACK, signal(decision_id="42"), 422, "decision_id"),
    (FEEDBACK, signal(decision_id=NOBODY), 404, "x-router-decision-id"),
    (FEEDBACK, signal(comment="x" * 10_001), 422, "comment"),
    (FEEDBACK, signal(tags={"a": 1}), 422, "tags"),
    (FEEDBACK, signal(tags={f"k{n}": "" for n in range(33)}), 422, "tags"),
    (OUTCOMES, ended(decision_id=NOBODY), 404, "x-router-decision-id"),
    (OUTCOMES, ended(model="nobody"), 404, "small"),
    (OUTCOMES, ended(status="fine"), 422, "status"),
    (OUTCOMES, ended(latency_s=-1), 422, "latency_s"),
    (OUTCOMES, ended(latency_s="1"), 422, "latency_s"),
    (OUTCOMES, ended(cost_usd=...), 422, "cost_usd"),
    (OUTCOMES, ended(input_tokens=-1), 422, "input_tokens"),
    (OUTCOMES, ended(tokens=1), 422, "tokens"),
]


async def assert_refused(got: httpx.Response, status: int, named: str) -> None:
    assert got.status_code == status, got.text
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert named in f"{error['param']} {error['message']}"
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    assert got.headers["x-request-id"]
    assert "Traceback" not in got.text


@pytest.mark.asyncio
async def test_every_bad_body_is_refused_with_a_remedy_and_the_next_good_one_is_served(
    store_url: str,
) -> None:
    async with misbehaving(answer) as upstream:
        models = [http_model(name, upstream.base_url) for name in ("small", "large")]
        metrics = {"quality": RewardConfig(), "solved": RewardConfig(type="boolean")}
        async with served(router_config(store_url, *models, rewards=metrics)) as service:
            known = (await service.ask()).headers["x-router-decision-id"]
            called = len(upstream.bodies)
            for door, body, status, named in TABLE:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                raw = raw.replace(b'"known"', f'"{known}"'.encode())
                got = await service.client.post(door, content=raw, headers=JSON)
                await assert_refused(got, status, named)
            assert len(upstream.bodies) == called
            await refuse_bad_heads(service, known)
            assert (await service.ask()).status_code == 200
            assert (await service.judge(known, 0.5)).status_code == 200


async def refuse_bad_heads(service: Served, known: str) -> None:
    """Wrong paths, methods, parameters, headers and lengths."""
    client = service.client

    async def chunks() -> Any:
        for _ in range(1000):
            yield b" " * 10_000

    await assert_refused(
        await client.post(CHAT, content=chunks(), headers=JSON), 413, "max_body_bytes"
    )
    await assert_refused(await client.get(CHAT), 405, "POST")
    await assert_refused(await client.delete("/v1/models"), 405, "GET")
    await assert_refused(await client.get("/v2/chat"), 404, "/v1")
    await assert_refused(await client.get("/v1/models/nobody"), 404, "small")
    await assert_refused(await client.get("/admin/decisions/42"), 422, "decision_id")
    await assert_refused(await client.get(f"/admin/decisions/{NOBODY}"), 404, NOBODY)
    await assert_refused(await client.get("/admin/snapshots?limit=-1"), 422, "limit")
    await assert_refused(await client.get("/admin/policies/nothing"), 404, "nothing")
    long_key = {"idempotency-key": "k" * 257}
    got = await client.post(FEEDBACK, json=signal(decision_id=known), headers=long_key)
    await assert_refused(got, 422, "256")
    got = await client.post(CHAT, json=ASK, headers={"x-session-id": "s" * 257})
    await assert_refused(got, 422, "x-session-id")


@pytest.mark.asyncio
async def test_a_sane_request_id_is_echoed_and_an_odd_one_replaced(store_url: str) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):
        for sent, kept in (("req-1.a:b", True), ("spaced out", False), ("x" * 129, False)):
            for path in ("/v1/models", "/nowhere"):
                got = await service.client.get(path, headers={"x-request-id": sent})
                assert (got.headers["x-request-id"] == sent) is kept
                assert len(got.headers["x-request-id"]) <= 128


@pytest.mark.asyncio
async def test_a_bug_becomes_a_500_that_shows_nothing_and_is_logged(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        misbehaving(answer) as upstream,
        served(router_config(store_url, http_model("small", upstream.base_url))) as service,
    ):

        def burst(*_: object, **__: object) -> None:
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr(service.runtime.router, "decide", burst)
        got = await service.client.post(CHAT, json=ASK, headers={"x-request-id": "r-77"})
        assert got.status_code == 500
        assert got.json()["error"]["code"] == "internal_error"
        assert "r-77" in got.json()["error"]["message"]
        assert "secret" not in got.text
        assert "r-77" in caplog.text
        assert "secret detail" in caplog.text
        monkeypatch.undo()
        assert (await service.ask()).status_code == 200
