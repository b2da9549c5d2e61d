"""Start upstream, pass-through and router; load each alike, in turns; compare."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from bandit_router.errors import DemoError
from simulations.demo.service_process import running_service
from simulations.demo.workspace import free_port, workspace
from simulations.gateway.load import run_load
from simulations.gateway.pass_through import UPSTREAM_VARIABLE
from simulations.gateway.upstream import STREAM_CHUNKS

MODELS = ("small", "middle", "large")
START_TIMEOUT_S = 30.0
POLL_S = 0.05
# On Linux a server ends when the benchmark dies, however it dies.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv.pop(1)):
        sys.exit("the benchmark is gone")
from uvicorn.main import main
main()
"""
# Streams carry many chunks each, so fewer of them measure as long.
STREAMED_SHARE = 10

Target = tuple[str, int]


def run_gateway(
    requests: int,
    connections: tuple[int, ...],
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, Any]:
    """Measure both targets under every load; the report as it is written to JSON.

    requests: whole answers per load, a tenth of that streamed; a fifth more warms up first.
    Raises DemoError where a process does not start or an answer is not one.
    """
    with ExitStack() as stack:
        upstream_port, bare_port = free_port(), free_port()
        upstream_url = f"http://127.0.0.1:{upstream_port}/v1"
        stack.enter_context(_server("simulations.gateway.upstream:app", upstream_port, {}))
        bare = stack.enter_context(
            _server(
                "simulations.gateway.pass_through:create_app",
                bare_port,
                {UPSTREAM_VARIABLE: upstream_url},
            )
        )
        place = stack.enter_context(workspace(keep=False))
        place.config_path.write_text(_config_text(upstream_url, place.port), encoding="utf-8")
        router = stack.enter_context(running_service(place))
        targets = {
            "pass_through": (f"http://127.0.0.1:{bare_port}", bare.pid),
            "router": (place.url, router.pid),
        }
        loads: list[dict[str, Any]] = []
        for stream in (False, True):
            count = max(1, requests // STREAMED_SHARE) if stream else requests
            loads.extend(
                _compare(targets, count, number, stream, on_stage, on_step)
                for number in connections
            )
    return {"loads": loads, "stream_chunks": STREAM_CHUNKS, "workers": 1}


def _compare(
    targets: dict[str, Target],
    count: int,
    connections: int,
    stream: bool,
    on_stage: Callable[[str, int], None],
    on_step: Callable[..., None],
) -> dict[str, Any]:
    measured: dict[str, dict[str, float]] = {}
    for name, (url, process_id) in targets.items():
        for part in (-(-count // 5), count):
            on_stage(f"{name}, {connections} connections{', streamed' * stream}", part)
            load = asyncio.run(
                run_load(
                    url,
                    process_id,
                    requests=part,
                    connections=connections,
                    stream=stream,
                    feedback=name == "router",
                    on_request=on_step,
                )
            )
        measured[name] = load.report()
        if stream:
            per_request = measured[name]["cpu_us_per_request"]
            measured[name]["cpu_us_per_chunk"] = per_request / STREAM_CHUNKS
    bare, router = measured["pass_through"], measured["router"]
    return {
        "connections": connections,
        "stream": stream,
        **measured,
        "added_p50_ms": router["p50_ms"] - bare["p50_ms"],
        "added_p99_ms": router["p99_ms"] - bare["p99_ms"],
        # A load of a moment may cost less than the clock of the kernel can tell.
        "cpu_ratio": (
            router["cpu_us_per_request"] / bare["cpu_us_per_request"]
            if bare["cpu_us_per_request"]
            else None
        ),
    }


def _config_text(upstream_url: str, port: int) -> str:
    models = [
        f'[[models]]\nname = "{name}"\nprovider = "openai_compatible"\n'
        f'base_url = "{upstream_url}"\n'
        for name in MODELS
    ]
    rest = (
        '[policy]\nname = "thompson"\n'
        '[rewards.quality]\ntype = "float"\nrange = [0.0, 1.0]\n'
        '[store]\ndata_dir = "data"\n'
        f'[server]\nhost = "127.0.0.1"\nport = {port}\n'
    )
    return "\n".join([*models, rest])


@contextmanager
def _server(app: str, port: int, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", LAUNCHER, str(os.getpid()), app, "--port", str(port)]
    command += [
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--ws",
        "none",
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    if app.endswith(":create_app"):
        command.append("--factory")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=os.environ | variables, start_new_session=True
    )
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise DemoError(f"{app} did not answer on port {port}; see its output above")
            time.sleep(POLL_S)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/health", timeout=1.0, trust_env=False)
    except httpx.TransportError:
        return False
    return True
