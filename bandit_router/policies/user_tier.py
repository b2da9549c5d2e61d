"""Who pays more gets the dearer model: by the label ``user_tier`` in a request's metadata."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.ladder import CHEAP, MIDDLE, STRONG, rung_pmf
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray

KEY = "user_tier"
HEIGHT_OF: Mapping[str, float] = {
    "free": CHEAP,
    "trial": CHEAP,
    "basic": CHEAP,
    "standard": MIDDLE,
    "plus": MIDDLE,
    "pro": STRONG,
    "premium": STRONG,
    "business": STRONG,
    "enterprise": STRONG,
}


@dataclass(frozen=True)
class UserTier(LinearPolicy):
    """The rung of the caller's tier; the cheapest model for callers without a known one."""

    name: str = "user_tier"
    adaptive: ClassVar[bool] = False

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        tier = tier_of(context)
        return rung_pmf(context, eligible, CHEAP if tier is None else tier)


def tier_of(context: Context) -> float | None:
    """Height of the caller's tier on the ladder, None where no known one is given.

    Read from the stored features, so that a logged decision can be recomputed without its
    metadata.
    """
    prefix = f"metadata.{KEY}["
    buckets = sum(name.startswith(prefix) for name in context.feature_names)
    if buckets == 0:
        return None
    for label, height in HEIGHT_OF.items():
        bucket, sign = _place(label, buckets)
        if context.feature(f"{prefix}{bucket}]") == sign:
            return height
    return None


@cache
def _place(label: str, buckets: int) -> tuple[int, float]:
    """Where ``features.metadata`` puts the label: bucket and sign."""
    digest = zlib.crc32(f"{KEY}={label}".encode())
    return digest % buckets, 1.0 if digest & 0x80000000 else -1.0
