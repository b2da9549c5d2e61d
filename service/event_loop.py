"""Which event loop our processes run on."""

from __future__ import annotations

import sys
from typing import Any


def loop_factory() -> Any:
    """For asyncio.Runner: uvloop, or Python's own where there is none."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
