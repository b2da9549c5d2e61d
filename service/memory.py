"""Giving memory that is no longer used back to the system."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any


def give_back() -> None:
    """Hand free pages back, where the C library has a call for it (glibc).

    A fit reads tens of thousands of rows; what it freed stayed with the process, and more of it
    with every fit: 183 MB had become 327 MB after 20,000 requests.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
