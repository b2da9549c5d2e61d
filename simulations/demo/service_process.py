"""The service as a process of its own, started as ``bandit-router serve`` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bandit_router.errors import DemoError
from bandit_router.store.embedded import EmbeddedPostgres
from bandit_router.store.postgres_files import is_postmaster_of
from simulations.child_process import bound_to_us
from simulations.demo.workspace import Workspace

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05
LOG_TAIL_LINES = 40

# What would make it another service than the one configured.
FOREIGN_VARIABLES = ("DATABASE_URL", "BANDIT_ROUTER_CONFIG")


@contextmanager
def running_service(place: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """The service on its configuration, ready to be asked; stopped with its Postgres at the end.

    Raises DemoError, with the end of its log, when it does not become ready.
    """
    environ = {k: v for k, v in os.environ.items() if k not in FOREIGN_VARIABLES}
    command = [sys.executable, "-c", "from bandit_router.cli import main; main()"]
    command += ["serve", "--config", str(place.config_path)]
    with place.log_path.open("wb") as log:
        process = subprocess.Popen(
            bound_to_us(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=place.folder,
            env=environ,
            # Ctrl-C in a terminal is for the demo; it stops the service when it is done.
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, place)
        yield process
    finally:
        with _undisturbed():
            _stop(process, place)


def log_tail(place: Workspace) -> str:
    """The last lines of the service's log, indented, for error messages."""
    lines = place.log_path.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
    return "\n  ".join(["", *(lines or ["(its log is empty)"])])


def _wait_until_ready(process: subprocess.Popen[bytes], place: Workspace) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(base_url=place.url, timeout=5.0, trust_env=False) as client:
        while process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health/ready").is_success:
                    return
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the service was not ready within {START_TIMEOUT_S:g} s; "
                    f"the end of its log:{log_tail(place)}"
                )
            time.sleep(POLL_S)
    raise DemoError(
        f"the service ended with exit code {process.returncode} before it was ready; "
        f"the end of its log:{log_tail(place)}"
    )


def _stop(process: subprocess.Popen[bytes], place: Workspace) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # A service that was killed may leave its Postgres behind, where parents' deaths are not told.
    postgres = EmbeddedPostgres(place.data_dir)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (pid := postgres.pid) is not None and is_postmaster_of(pid, postgres.cluster):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        if time.monotonic() > deadline:
            raise DemoError(
                f"Postgres {pid} did not stop within {STOP_TIMEOUT_S:g} s; end it with: "
                f"kill -QUIT {pid}"
            )
        time.sleep(POLL_S)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore further signals for as long as the service needs to stop."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
