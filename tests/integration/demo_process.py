"""``bandit-router demo`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = [sys.executable, "-u", "-c", "from bandit_router.cli import main; main()", "demo"]
ENVIRON = {"NO_COLOR": "1", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/not_this_one"}


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo on its way, its output in one pipe; whatever it leaves behind is ended after it."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRON},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read on until a line has these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if words in line:
            return lines
    raise AssertionError(f"the demo ended without saying '{words}':\n" + "\n".join(lines))
