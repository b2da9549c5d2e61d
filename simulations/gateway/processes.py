"""Servers as processes of their own, and the CPU that they take."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bandit_router.errors import DemoError
from simulations.child_process import bound_to_us

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
LOG_TAIL = 1500


def child_running(root: int, word: str) -> int | None:
    """The process started by ``root`` that has ``word`` on its command line, None without one."""
    for folder in Path("/proc").iterdir():
        # A process may end while we look.
        with contextlib.suppress(OSError):
            if folder.name.isdecimal():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if int(fields[1]) == root and word.encode() in words:
                    return int(folder.name)
    return None


def cpu_s(root: int, without: Collection[int] = ()) -> float:
    """User and system seconds of a process and all below it. Linux only, in steps of 10 ms.

    without: processes that are left out with all below them. Ended children are in it where
    they were waited for. Raises DemoError where there is no /proc.
    """
    parents, seconds = {}, {}
    try:
        folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    except OSError as error:
        raise DemoError(f"CPU cannot be read ({error}); run this on Linux") from error
    for folder in folders:
        # A process may end while we look.
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            process_id = int(folder.name)
            parents[process_id] = int(fields[1])
            seconds[process_id] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    if root not in seconds:
        raise DemoError(f"process {root} has ended, or there is no /proc; run this on Linux")
    found, level = 0.0, {root}
    while level:
        found += sum(seconds[process_id] for process_id in level)
        level = {child for child, parent in parents.items() if parent in level} - set(without)
    return found


@contextmanager
def server(
    command: Sequence[str],
    is_up: Callable[[], bool],
    *,
    variables: Mapping[str, str] | None = None,
    log_path: Path,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers, ended with all that it started.

    Raises DemoError, with the end of its output, when it is not up within timeout_s.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            bound_to_us(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(variables or {}),
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + timeout_s
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline_s:
                told = log_path.read_text(errors="replace")[-LOG_TAIL:].strip()
                raise DemoError(f"{command[0]} did not come up; the end of its output: {told}")
            time.sleep(POLL_S)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    """Whether anything at all is answered there."""
    try:
        httpx.get(url, timeout=1.0, trust_env=False)
    except httpx.TransportError:
        return False
    return True
