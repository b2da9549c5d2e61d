"""Start upstream, pass-through, router and peers; load each alike, in turns; compare."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bandit_router.errors import DemoError
from bandit_router.store.embedded import EmbeddedPostgres
from simulations.demo.service_process import running_service
from simulations.demo.workspace import Workspace, free_port, workspace
from simulations.gateway.load import run_load
from simulations.gateway.pass_through import UPSTREAM_VARIABLE
from simulations.gateway.peers import PEERS, Absent
from simulations.gateway.processes import answers, server
from simulations.gateway.target import Target
from simulations.gateway.upstream import STREAM_CHUNKS

MODELS = ("small", "middle", "large")
# Streams carry many chunks each, so fewer of them measure as long.
STREAMED_SHARE = 10
# A peer that is a hundred times slower than the rest is measured well enough by fewer.
MOST_PEER_REQUESTS = 1_500

OnStage = Callable[[str, int], None]
OnStep = Callable[..., None]


def run_gateway(
    requests: int,
    connections: tuple[int, ...],
    on_stage: OnStage,
    on_step: OnStep,
    *,
    peers: Sequence[str] = (),
    peer_folder: Path | None = None,
) -> dict[str, Any]:
    """Measure every target under every load; the report as it is written to JSON.

    requests: whole answers per load, a tenth of that streamed; a fifth more warms up first.
    peers: names out of ``PEERS``; peer_folder: where they are or will be installed, a
    temporary folder if not given. One that cannot be had is in the report's ``absent`` with
    the reason. Raises DemoError where one of our own does not start or an answer is not one.
    """
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-")))
        upstream_url = stack.enter_context(_upstream(folder))
        targets = [
            stack.enter_context(_pass_through(folder, upstream_url)),
            stack.enter_context(_router(upstream_url)),
        ]
        for name in peers:
            place = (peer_folder or folder) / name
            place.mkdir(parents=True, exist_ok=True)
            on_stage(f"{name} starts", 1)
            try:
                targets.append(stack.enter_context(PEERS[name](place, upstream_url)))
            except Absent as error:
                absent[name] = str(error)
            on_step()
        loads: list[dict[str, Any]] = []
        for stream in (False, True):
            for number in connections:
                measured = {}
                for target in targets:
                    most = MOST_PEER_REQUESTS if target.name in PEERS else requests
                    count = min(requests, most)
                    count = max(1, count // STREAMED_SHARE) if stream else count
                    try:
                        measured[target.name] = _load(
                            target, count, number, stream, on_stage, on_step
                        )
                    except DemoError as error:
                        if target.name not in PEERS:
                            raise
                        kind = f"{target.name}{', streamed' * stream}"
                        absent[kind] = f"it does not take the load: {error}"
                loads.append(_compared(measured, number, stream))
    return {"loads": loads, "absent": absent, "stream_chunks": STREAM_CHUNKS, "workers": 1}


def _load(
    target: Target,
    count: int,
    connections: int,
    stream: bool,
    on_stage: OnStage,
    on_step: OnStep,
) -> dict[str, float]:
    for part in (-(-count // 5), count):
        on_stage(f"{target.name}, {connections} connections{', streamed' * stream}", part)
        load = asyncio.run(
            run_load(
                target, requests=part, connections=connections, stream=stream, on_request=on_step
            )
        )
    return load.report()


def _compared(
    measured: dict[str, dict[str, float]], connections: int, stream: bool
) -> dict[str, Any]:
    bare = measured["pass_through"]
    for row in measured.values():
        row["added_p50_ms"] = row["p50_ms"] - bare["p50_ms"]
        row["added_p99_ms"] = row["p99_ms"] - bare["p99_ms"]
        if stream:
            row["cpu_us_per_chunk"] = row["cpu_us_per_request"] / STREAM_CHUNKS
    router = measured["router"]
    return {
        "connections": connections,
        "stream": stream,
        **measured,
        # A load of a moment may cost less than the clock of the kernel can tell.
        "cpu_ratio": (
            router["cpu_us_per_request"] / bare["cpu_us_per_request"]
            if bare["cpu_us_per_request"]
            else None
        ),
        "throughput_ratios": {
            name: router["requests_per_s"] / row["requests_per_s"]
            for name, row in measured.items()
            if name != "router"
        },
    }


@contextmanager
def _upstream(folder: Path) -> Iterator[str]:
    port = free_port()
    with _uvicorn("simulations.gateway.upstream:app", port, {}, folder / "upstream.log"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def _pass_through(folder: Path, upstream_url: str) -> Iterator[Target]:
    port = free_port()
    app = "simulations.gateway.pass_through:create_app"
    variables = {UPSTREAM_VARIABLE: upstream_url}
    with _uvicorn(app, port, variables, folder / "pass_through.log") as process_id:
        yield Target("pass_through", f"http://127.0.0.1:{port}", process_id)


@contextmanager
def _router(upstream_url: str) -> Iterator[Target]:
    with workspace(keep=False) as place:
        place.config_path.write_text(_config_text(upstream_url, place), encoding="utf-8")
        with running_service(place) as process:
            yield Target(
                "router",
                place.url,
                process.pid,
                postgres_id=EmbeddedPostgres(place.data_dir).pid,
                rated=True,
            )


def _config_text(upstream_url: str, place: Workspace) -> str:
    models = [
        f'[[models]]\nname = "{name}"\nprovider = "openai_compatible"\n'
        f'base_url = "{upstream_url}"\n'
        for name in MODELS
    ]
    rest = (
        '[policy]\nname = "thompson"\n'
        '[rewards.quality]\ntype = "float"\nrange = [0.0, 1.0]\n'
        '[store]\ndata_dir = "data"\n'
        f'[server]\nhost = "127.0.0.1"\nport = {place.port}\n'
    )
    return "\n".join([*models, rest])


@contextmanager
def _uvicorn(app: str, port: int, variables: dict[str, str], log_path: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port)]
    command += ["--http", "httptools", "--loop", "uvloop", "--ws", "none"]
    command += ["--no-access-log", "--log-level", "warning"]
    if app.endswith(":create_app"):
        command.append("--factory")
    url = f"http://127.0.0.1:{port}/health"
    with server(command, lambda: answers(url), variables=variables, log_path=log_path) as process:
        yield process.pid
