"""Commands that do not outlive the process which started them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# On Linux the command gets SIGTERM when its starter dies, however it dies.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("who started this is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound_to_us(command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` and ends with this process."""
    return [sys.executable, "-c", LAUNCHER, str(os.getpid()), *command]
