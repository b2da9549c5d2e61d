"""Hostile requests over real sockets: each is refused with a 4xx or passed on, none breaks us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from chain_setup import fallback, http_model
from service_process import ASK, Served, router_config, served

from bandit_router.config import Capability, ServerConfig
from simulations.faults.misbehaving import MisbehavingServer, answer, misbehaving

pytestmark = pytest.mark.asyncio
CHAT = "/v1/chat/completions"
JSON_DOORS = (
    ("POST", CHAT),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/route"),
    ("POST", "/v1/outcomes"),
    ("POST", "/v1/feedback"),
    ("POST", "/admin/what-if"),
    ("POST", "/admin/keys"),
    ("POST", "/admin/models"),
    ("PUT", "/admin/budget"),
    ("POST", "/admin/snapshots/rollback"),
    ("PUT", "/admin/feedback/sources/somebody"),
)
PATIENCE_S = 0.5
LIMIT_BYTES = 1024 * 1024
HUGE = 10**18
GOOD = orjson.dumps(ASK)


@asynccontextmanager
async def open_service(
    store_url: str, body_timeout_s: float = 20.0
) -> AsyncIterator[tuple[Served, MisbehavingServer]]:
    server = ServerConfig(max_body_bytes=LIMIT_BYTES, body_timeout_s=body_timeout_s)
    async with misbehaving(answer) as upstream:
        model = http_model("small", upstream.base_url, capabilities=frozenset(Capability))
        # On a busy machine the first answer may take longer than the usual patience of tests.
        patient = fallback(attempt_timeout_s=5.0, first_token_timeout_s=5.0)
        config = router_config(store_url, model, server=server, fallback=patient)
        async with served(config) as service:
            yield service, upstream


class Spoken(asyncio.Protocol):
    """A raw connection: what came back, and whether the other side hung up."""

    def __init__(self) -> None:
        self.answer = b""
        self.closed = asyncio.Event()
        self.heard = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.answer += data
        self.heard.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    @property
    def status(self) -> int:
        return int(self.answer.split(b" ", 2)[1])

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.answer.split(b"\r\n\r\n", 1)[1])["error"]
        return found


@asynccontextmanager
async def connection(
    service: Served, *headers: str
) -> AsyncIterator[tuple[asyncio.Transport, Spoken]]:
    """A connection on which the head of a chat request has been sent."""
    url = httpx.URL(service.url)
    loop = asyncio.get_running_loop()
    transport, spoken = await loop.create_connection(Spoken, url.host, url.port)
    lines = [f"POST {CHAT} HTTP/1.1", f"Host: {url.host}", "Content-Type: application/json"]
    transport.write("\r\n".join([*lines, *headers, "", ""]).encode("latin-1"))
    try:
        yield transport, spoken
    finally:
        transport.abort()


def assert_refused(got: httpx.Response, status: int, code: str) -> None:
    assert got.status_code == status, got.text
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


async def test_every_json_door_refuses_what_another_page_could_send(store_url: str) -> None:
    async with open_service(store_url) as (service, upstream):
        for method, door in JSON_DOORS:
            for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
                headers = {"content-type": kind}
                got = await service.client.request(method, door, content=GOOD, headers=headers)
                assert_refused(got, 415, "unsupported_media_type")
                assert "application/json" in got.json()["error"]["message"]
            # A page's script can leave the type out, too.
            got = await service.client.request(method, door, content=GOOD)
            assert_refused(got, 415, "unsupported_media_type")
        assert not upstream.bodies
        for kind in ("application/json", "Application/JSON; charset=utf-8", "application/json;x=1"):
            got = await service.client.post(CHAT, content=GOOD, headers={"content-type": kind})
            assert got.status_code == 200, got.text


async def test_a_body_of_50_mb_is_refused_and_cuts_nobody_off(store_url: str) -> None:
    async with open_service(store_url) as (service, upstream):
        raw = b'{"model": "auto", "messages": "' + b"x" * 50_000_000 + b'"}'
        got = await service.client.post(
            CHAT, content=raw, headers={"content-type": "application/json"}
        )
        assert_refused(got, 413, "body_too_large")
        assert (await service.ask()).status_code == 200
        assert len(upstream.bodies) == 1


async def test_a_chunked_body_without_end_is_refused_and_the_connection_closed(
    store_url: str,
) -> None:
    async with (
        open_service(store_url, 3.0) as (service, upstream),
        connection(service, "Transfer-Encoding: chunked") as (transport, spoken),
    ):
        async with asyncio.timeout(20.0):
            while not spoken.closed.is_set():
                if not transport.is_closing():
                    transport.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await asyncio.sleep(0.005)
        assert spoken.status == 413
        assert spoken.error["code"] == "body_too_large"
        assert not upstream.bodies


@pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_given_up(store_url: str, head: str) -> None:
    async with (
        open_service(store_url, PATIENCE_S) as (service, upstream),
        connection(service, head) as (transport, spoken),
    ):
        begun_s = time.monotonic()
        async with asyncio.timeout(10.0):
            while not spoken.closed.is_set():
                if not transport.is_closing():
                    transport.write(b"1\r\n \r\n" if "chunked" in head else b" ")
                await asyncio.sleep(0.05)
        assert PATIENCE_S <= time.monotonic() - begun_s < PATIENCE_S + 5.0
        assert spoken.status == 408
        assert spoken.error["code"] == "body_timeout"
        assert not upstream.bodies
        assert (await service.ask()).status_code == 200


async def test_a_caller_who_leaves_in_mid_body_is_no_error(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(store_url) as (service, upstream):
        async with connection(service, "Content-Length: 100") as (transport, _):
            transport.write(b"{")
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        assert (await service.ask()).status_code == 200
        assert len(upstream.bodies) == 1
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]


async def test_of_duplicate_keys_the_last_counts_for_router_and_model_alike(
    store_url: str,
) -> None:
    async with open_service(store_url) as (service, upstream):
        twice = b'{"model": "nobody", "stream": true, ' + GOOD[1:-1] + b', "stream": false}'
        got = await service.client.post(
            CHAT, content=twice, headers={"content-type": "application/json"}
        )
        assert got.status_code == 200, got.text
        assert got.json()["object"] == "chat.completion"
        assert "stream" not in upstream.bodies[-1] or upstream.bodies[-1]["stream"] is False


async def test_no_line_break_of_a_caller_comes_back_as_a_header(store_url: str) -> None:
    broken = "x\r\nset-cookie: stolen=1\r\n\r\n"
    async with open_service(store_url) as (service, _):
        post, get = service.client.post, service.client.get
        escaped = "x%0d%0aset-cookie:%20stolen=1"
        answers = [
            await service.ask(model=broken),
            await service.ask(models=[broken]),
            await service.ask(metadata={broken: broken}),
            await service.ask(router={"session_id": broken}),
            await service.ask(router={"user_tier": broken, "workflow": broken}),
            await service.ask(router={"exclude": [broken], broken: 1}),
            await post("/v1/feedback", json={"decision_id": broken, "metric": broken, "value": 1}),
            await post("/admin/keys", json={"name": broken}),
            await post("/admin/models", json={"name": broken, "base_url": "http://127.0.0.1:9"}),
            await get(f"/v1/models/{escaped}"),
            await get(f"/admin/decisions/{escaped}"),
            await get(f"/{escaped}"),
        ]
        for got in answers:
            assert got.status_code == 200 or 400 <= got.status_code < 500, got.text
            assert "set-cookie" not in got.headers
        # A bare line feed in a header's value ends the value, or the request is refused.
        async with connection(
            service, "X-Request-Id: x\nset-cookie: stolen=1", "Content-Length: 2"
        ) as (transport, spoken):
            transport.write(b"{}")
            async with asyncio.timeout(10.0):
                await spoken.heard.wait()
        assert 400 <= spoken.status < 500
        assert b"set-cookie" not in spoken.answer.split(b"\r\n\r\n", 1)[0].lower()


async def test_absurd_values_are_refused_or_the_models_business(store_url: str) -> None:
    nul = "a\0b"
    async with open_service(store_url) as (service, upstream):
        passed = [
            {"max_tokens": -HUGE},
            {"temperature": 1e308},
            {"seed": -(2**63)},
            {"n": HUGE},
            {"messages": [{"role": "user", "content": nul}]},
            {"messages": [{"role": "user", "content": ""}]},
            {"messages": [{"role": "user", "content": []}] * 2000},
        ]
        refused = [
            {"max_tokens": HUGE},
            {"max_completion_tokens": 2**64 - 1},
            {"router": {"max_cost_usd": -1}},
            {"router": {"max_cost_usd": True}},
            {"router": {"max_latency_s": 0}},
            {"router": {"max_first_token_s": 0}},
            {"router": {"quality_floor": HUGE}},
            {"metadata": {"task": nul}},
            {"metadata": {nul: "task"}},
            {"router": {"session_id": nul}},
            {"router": {"user_tier": nul}},
            {"router": {"workflow": nul}},
        ]
        for changes in passed:
            got = await service.ask(**changes)
            assert got.status_code == 200, (changes, got.text)
            # JSON has one kind of number: what was sent is what the model got.
            assert {name: upstream.bodies[-1][name] for name in changes} == changes
        for changes in refused:
            got = await service.ask(**changes)
            assert 400 <= got.status_code < 500, (changes, got.text)
        assert len(upstream.bodies) == len(passed)
        known = (await service.ask()).headers["x-router-decision-id"]
        for more in (
            {"value": HUGE},
            {"value": -1e308},
            {"value": 1, "comment": nul},
            {"value": 1, "tags": {nul: "x"}},
            {"value": 1, "tags": {"x": nul}},
            {"value": 1, "metric": nul},
        ):
            got = await service.judge(known, **{"value": None, **more})
            assert got.status_code == 422, (more, got.text)
        ended = {"decision_id": known, "model": "small"}
        for more in (
            {"latency_s": 1e308},
            {"latency_s": 1, "cost_usd": 1e308},
            {"latency_s": 1, "input_tokens": HUGE},
            {"latency_s": 1, "model": nul},
        ):
            got = await service.client.post("/v1/outcomes", json={**ended, **more})
            assert 400 <= got.status_code < 500, (more, got.text)


async def test_bytes_that_are_no_utf_8_are_refused_at_every_door(store_url: str) -> None:
    async with open_service(store_url) as (service, upstream):
        for method, door in JSON_DOORS:
            for raw in (b'{"model": "\xff\xfe"}', b'{"\xc3\x28": 1}', b"\xef\xbb\xbf{}", b"\x00"):
                got = await service.client.request(
                    method, door, content=raw, headers={"content-type": "application/json"}
                )
                assert_refused(got, 400, "invalid_json")
        assert not upstream.bodies
