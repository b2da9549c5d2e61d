"""The bare pass-through: the router's server stack and HTTP client, no routing, no logging."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.run import GC_THRESHOLDS

UPSTREAM_VARIABLE = "BENCHMARK_UPSTREAM_URL"


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        app.state.session = session
        app.state.upstream = os.environ[UPSTREAM_VARIABLE] + "/chat/completions"
        # As the router does: the two shall differ in routing and logging alone.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        yield


async def _forward(request: Request) -> Response:
    body = await request.body()
    state = request.app.state
    answer = await state.session.post(
        state.upstream, data=body, headers={"content-type": "application/json"}
    )
    if answer.content_type != "text/event-stream":
        async with answer:
            return Response(await answer.read(), media_type="application/json")

    async def chunks() -> AsyncIterator[bytes]:
        async with answer:
            async for chunk in answer.content.iter_any():
                yield chunk

    return StreamingResponse(chunks(), media_type="text/event-stream")


def create_app() -> Starlette:
    """The application; its upstream's base URL is in BENCHMARK_UPSTREAM_URL."""
    routes = [Route("/v1/chat/completions", _forward, methods=["POST"])]
    return Starlette(routes=routes, lifespan=_lifespan)
