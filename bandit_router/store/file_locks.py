"""Locks on files: held by a process for as long as it lives, however it ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO

POLL_S = 0.02


def try_lock(path: Path) -> IO[str] | None:
    """The open file that holds the lock, or None while another process holds it.

    Closing the file gives the lock up.
    """
    import fcntl  # not to be had on Windows, where nothing else of the supervisor works either

    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def lock(path: Path, timeout_s: float) -> IO[str]:
    """Like ``try_lock``, but waits. Raises TimeoutError after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while (handle := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} was held by another process for {timeout_s:g} s")
        time.sleep(POLL_S)
    return handle


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    handle = try_lock(path)
    if handle is None:
        return True
    handle.close()
    return False
