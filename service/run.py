"""Running the service until it is told to stop: socket, server, banner, farewell."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import uvicorn

from bandit_router import __version__
from bandit_router.clock import SystemClock
from bandit_router.config import RouterConfig, ServerConfig
from bandit_router.config_file import load_config
from bandit_router.errors import ConfigError, RouterError
from service.app import create_app
from service.closing import Closing
from service.event_loop import loop_factory
from service.log_lines import set_up_logging
from service.memory import keep_little
from service.runtime import Runtime
from service.settings import check_listening, read_settings
from service.tracing import open_tracing

BACKLOG = 2048
# Longer than clients and proxies keep an idle connection for reuse (httpx 5 s, aiohttp 15, nginx
# 60), so that none is closed while a request is on its way.
KEEP_ALIVE_S = 75
# Measured: p99 at 32 connections fell from 47 to 8 ms when start-up's objects were frozen and
# young collections made rarer.
GC_THRESHOLDS = (50_000, 50, 100)
# The learner's arithmetic runs in a thread, and requests wait for it at every turn of the loop.
# Measured at 16 connections: p99 fell from 880 to 305 ms against Python's own 5 ms.
SWITCH_INTERVAL_S = 0.0005
# After the patience with requests under way: what they may take to say so and to be booked.
FAREWELL_S = 5
log = logging.getLogger(__name__)


def serve(config: RouterConfig, config_path: Path) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished and everything stored.

    config_path: where the configuration came from, for the banner. Raises ConfigError or
    StoreError where it cannot start.
    """
    keep_little()
    check_listening(config.server)
    set_up_logging(os.environ, sys.stderr)
    listener = listen(config.server)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(config, config_path, listener))
    finally:
        listener.close()


def listen(server: ServerConfig) -> socket.socket:
    """The bound socket; port 0 takes a free one. Raises ConfigError where it cannot be had."""
    try:
        family = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((server.host, server.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror or error}; stop "
            "whatever listens there, or choose another --port (0 takes a free one)"
        ) from error
    # Every connection inherits it; asyncio's own loop would let an answer's body wait 40 ms for
    # the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _serve(config: RouterConfig, config_path: Path, listener: socket.socket) -> None:
    settings = read_settings(config, os.environ, os.urandom)

    def reread() -> RouterConfig:
        found = load_config(config_path)
        # Where to listen may have been named on the command line; it cannot change anyway.
        here = {"host": config.server.host, "port": config.server.port}
        return found.model_copy(update={"server": found.server.model_copy(update=here)})

    tracing = open_tracing(config.tracing, os.environ)
    runtime = Runtime(
        config,
        settings,
        clock=SystemClock(),
        random_bytes=os.urandom,
        reread=reread,
        tracing=tracing,
        # Its pipes are Unix's.
        learns_apart=config.learner.own_process and sys.platform != "win32",
    )
    async with AsyncExitStack() as exits:
        if tracing is not None:
            exits.push_async_callback(asyncio.to_thread, tracing.close)
        await exits.enter_async_context(runtime)
        _reload_on_hangup(runtime)
        server = _Server(
            uvicorn.Config(
                create_app(runtime),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                server_header=False,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_s) + FAREWELL_S,
            ),
            banner(config, config_path, listener, runtime),
            runtime.closing,
            settings.shutdown_s,
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        await server.serve(sockets=[listener])


def _reload_on_hangup(runtime: Runtime) -> None:
    """SIGHUP reads the file again, as POST /admin/reload does, here alone."""
    if sys.platform == "win32":
        return
    turns: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        try:
            changed = await runtime.live.reload()
        except RouterError as error:
            log.error("the configuration stays as it was: %s", error)
        else:
            log.info("read the file again; changed: %s", ", ".join(changed) or "nothing")

    def hear() -> None:
        turn = asyncio.get_running_loop().create_task(reload(), name="reload")
        turns.add(turn)
        turn.add_done_callback(turns.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hear)


def banner(
    config: RouterConfig, config_path: Path, listener: socket.socket, runtime: Runtime
) -> str:
    """What a newcomer needs to know: where, which models, where the data live, how to call."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    names = [model.name for model in config.routable]
    last = [model.name for model in config.last_resorts]
    key = " -H 'authorization: Bearer br-…'" if config.server.require_api_key else ""
    json_header = f"-H 'content-type: application/json'{key}"
    metric = sorted(config.rewards)[0]
    lines = [
        f"bandit-router {__version__} listens on {url}",
        f"  config    {config_path}",
        f"  models    {', '.join(names)}" + (f"; last resort {', '.join(last)}" if last else ""),
        f"  policy    {config.policy.name}, snapshot {runtime.router.serving.version}",
        f"  postgres  {runtime.postgres}",
        f"  ask       curl -i {url}/v1/chat/completions {json_header} "
        '-d \'{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}\'',
        f"  judge     curl {url}/v1/feedback {json_header} "
        f'-d \'{{"decision_id": "…", "metric": "{metric}", "value": 1}}\'',
        "  stop      Ctrl-C",
    ]
    return "\n".join(lines)


class _Server(uvicorn.Server):
    """uvicorn, which here announces itself once it accepts, and ends without a signal."""

    def __init__(
        self, config: uvicorn.Config, announcement: str, closing: Closing, patience_s: float
    ) -> None:
        super().__init__(config)
        self._announcement = announcement
        self._closing = closing
        self._patience_s = patience_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stderr.write(self._announcement + "\n")
        sys.stderr.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later(self._patience_s, self._closing.end)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The original raises the signal again at the end, which would skip our own farewell.
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
