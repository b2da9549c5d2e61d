"""The OpenAPI description is whole, and what it says of statuses holds for whatever is sent.

BANDIT_ROUTER_SCHEMATHESIS_EXAMPLES=100 sends that many bodies to each door and follows
the answers' links; by default one, beside those that cover what the schemas name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import uvicorn
from chain_setup import fallback, http_model
from service_process import router_config, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bandit_router.config import Capability, RouterConfig
from bandit_router.types import GENERATING, Operation

pytestmark = pytest.mark.asyncio
EXAMPLES = os.environ.get("BANDIT_ROUTER_SCHEMATHESIS_EXAMPLES", "1")
# Calls that follow from answers before them take as long as all else.
PHASES = "coverage,fuzzing" if EXAMPLES == "1" else "coverage,fuzzing,stateful"
CHECKS = "not_a_server_error,status_code_conformance"
DOORS = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/route",
    "/v1/feedback",
    "/v1/outcomes",
    "/v1/models",
    "/admin/models",
    "/health/ready",
}


async def anything(request: Request) -> Response:
    """An answer that every operation takes, to whatever was sent."""
    body = orjson.loads(await request.body())
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    answer = {"choices": [{"finish_reason": "stop"}], "output": [], "data": [], "usage": usage}
    if body.get("stream") is not True:
        return JSONResponse(answer)
    event = {**answer, "type": "response.completed", "response": {"usage": usage}}
    return Response(b"data: " + orjson.dumps(event) + b"\n\n", media_type="text/event-stream")


@contextlib.asynccontextmanager
async def agreeable_upstream() -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/v1/{path:path}", anything, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await serving


def config_of(store_url: str, base_url: str) -> RouterConfig:
    patience = {"attempt_timeout_s": 10.0, "first_token_timeout_s": 10.0, "idle_timeout_s": 10.0}
    return router_config(
        store_url,
        http_model("small", base_url, serves=GENERATING, capabilities=frozenset(Capability)),
        http_model("embedder", base_url, serves=frozenset({Operation.EMBEDDINGS})),
        fallback=fallback(**patience),
    )


async def test_every_door_and_its_errors_are_described(store_url: str) -> None:
    async with served(config_of(store_url, "http://127.0.0.1:9/v1")) as service:
        found = (await service.client.get("/openapi.json")).json()
    assert set(found["paths"]) >= DOORS
    for path, doors in found["paths"].items():
        for door in doors.values():
            if not path.startswith("/health"):
                assert {"401", "403", "500", "503"} <= set(door["responses"]), path


@pytest.mark.timeout(60 + 60 * int(EXAMPLES))
async def test_no_generated_request_brings_a_5xx_or_an_undescribed_status(
    store_url: str, tmp_path: Path
) -> None:
    async with (
        agreeable_upstream() as base_url,
        served(config_of(store_url, base_url)) as service,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"{service.url}/openapi.json",
            *("--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1"),
            *("--phases", PHASES, "--generation-database", "none", "--no-color"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # It keeps what failed in the folder that it runs in.
            cwd=tmp_path,
        )
        told, _ = await process.communicate()
    report = told.decode(errors="replace")
    assert process.returncode == 0, report[-6000:]
    assert "passed" in report
