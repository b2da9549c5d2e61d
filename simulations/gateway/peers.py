"""Other gateways on the same upstream, installed for the run or taken from a folder.

No database, logging or learning is on for any of them.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bandit_router.errors import DemoError
from simulations.demo.workspace import free_port
from simulations.gateway.processes import answers, server
from simulations.gateway.target import Target

INSTALL_TIMEOUT_S = 600.0
START_TIMEOUT_S = 90.0
KEY = "benchmark"
# 1.106.2 is the newest whose requirements can be met from wheels on Python 3.11.
LITELLM = ("litellm[proxy]==1.106.2", "opentelemetry-sdk")
TENSORZERO = ("tensorzero==2026.6.0",)
PORTKEY = "@portkey-ai/gateway"
# The package holds the whole gateway; there is no other entrance to it than this one.
TENSORZERO_START = """
import sys, time
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None,
    async_setup=False,
)
open(sys.argv[2], "w").write(gateway.base_url)
while True:
    time.sleep(3600)
"""


class Absent(Exception):
    """A peer that cannot be had here, and why."""


@contextmanager
def litellm(folder: Path, upstream_url: str) -> Iterator[Target]:
    """The LiteLLM proxy, one worker."""
    python = _environment(folder, LITELLM)
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: small\n    litellm_params:\n"
        f"      model: openai/small\n      api_base: {upstream_url}\n      api_key: {KEY}\n"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    # It does not start without a key, and does not take a short one.
    key = f"sk-{secrets.token_hex(32)}"
    variables = {"LITELLM_MASTER_KEY": key}
    headers = {"authorization": f"Bearer {key}"}
    with _started(folder, command, f"{url}/health/liveliness", variables) as process_id:
        yield Target("litellm", url, process_id, model="small", headers=headers)


@contextmanager
def tensorzero(folder: Path, upstream_url: str) -> Iterator[Target]:
    """TensorZero's gateway, in Rust, as its Python package carries it."""
    python = _environment(folder, TENSORZERO)
    config, found = folder / "tensorzero.toml", folder / "tensorzero.url"
    config.write_text(
        "[gateway]\nobservability.enabled = false\n"
        '[models.small]\nrouting = ["recorded"]\n'
        f'[models.small.providers.recorded]\ntype = "openai"\nmodel_name = "small"\n'
        f'api_base = "{upstream_url}/"\napi_key_location = "none"\n'
    )
    found.unlink(missing_ok=True)
    command = [str(python), "-c", TENSORZERO_START, str(config), str(found)]
    with _process(folder, command, lambda: found.exists() and bool(found.read_text())) as pid:
        yield Target(
            "tensorzero",
            found.read_text().replace("0.0.0.0", "127.0.0.1").rstrip("/"),
            pid,
            path="/chat/completions",
            model="tensorzero::model_name::small",
        )


@contextmanager
def portkey(folder: Path, upstream_url: str) -> Iterator[Target]:
    """Portkey's gateway, on Node."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Absent("it needs npm and node, which are not installed")
    start = folder / "node_modules" / PORTKEY / "build" / "start-server.js"
    if not start.exists():
        _install(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), PORTKEY])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["node", str(start), f"--port={port}", "--headless"]
    with _started(folder, command, url) as process_id:
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": upstream_url,
            "authorization": f"Bearer {KEY}",
        }
        yield Target("portkey", url, process_id, model="small", headers=headers)


PEERS = {"litellm": litellm, "tensorzero": tensorzero, "portkey": portkey}


def _environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment with these packages, made where it is missing.

    Raises Absent where they cannot be installed.
    """
    python = folder / "bin" / "python"
    done = folder / "installed"
    wanted = "\n".join(packages)
    if not done.exists() or done.read_text() != wanted:
        _install([sys.executable, "-m", "venv", str(folder)])
        _install([str(python), "-m", "pip", "install", "--quiet", *packages])
        done.write_text(wanted)
    return python


def _install(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().splitlines()
        last = told[-1] if told else f"exit code {error.returncode}"
        raise Absent(f"it does not install here: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Absent(f"it does not install here: {error}") from error


@contextmanager
def _started(
    folder: Path, command: list[str], url: str, variables: Mapping[str, str] | None = None
) -> Iterator[int]:
    with _process(folder, command, lambda: answers(url), variables) as process_id:
        yield process_id


@contextmanager
def _process(
    folder: Path,
    command: list[str],
    is_up: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
) -> Iterator[int]:
    # Bytecode, since some of them take a minute to import without.
    variables = {"PYTHONDONTWRITEBYTECODE": ""} | dict(variables or {})
    log_path = folder / "server.log"
    started = server(
        command, is_up, variables=variables, log_path=log_path, timeout_s=START_TIMEOUT_S
    )
    try:
        process = started.__enter__()
    except DemoError as error:
        raise Absent(f"it does not start here: {error}") from error
    try:
        yield process.pid
    finally:
        started.__exit__(None, None, None)
