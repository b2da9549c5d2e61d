"""The caller's own labels as features: one block of hashed buckets per configured key."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from bandit_router.protocols import FeatureBlock
from bandit_router.types import FeatureArray, RoutingRequest

_VALUE_CHARS = 256
# Of 57 labels, 64 % have one of 128 buckets to themselves; of 32 it would be 17 %.
BUCKETS = 128


def bucket_of(key: str, label: str, buckets: int) -> tuple[int, float]:
    """Which of a key's buckets a label falls into, and with which sign."""
    # Key and value together: equal values of two keys fall in different buckets.
    digest = zlib.crc32(f"{key}={label}".encode("utf-8", "surrogatepass"))
    return digest % buckets, 1.0 if digest & 0x80000000 else -1.0


class MetadataLabels:
    """Signed one-hot of every configured key's hashed value; an absent key gives zeros.

    Two values of one key share a bucket with chance 1 / ``buckets``, and then differ in sign
    half of the time. Values are text; numbers and booleans are read as their text.
    """

    def __init__(self, keys: Sequence[str], buckets: int = BUCKETS) -> None:
        self._keys = tuple(keys)
        self._buckets = buckets
        self._names = tuple(
            f"metadata.{key}[{bucket}]" for key in self._keys for bucket in range(buckets)
        )

    @property
    def version(self) -> str:
        width = "" if self._buckets == BUCKETS else f"-{self._buckets}"
        return f"metadata({','.join(self._keys)}){width}-2"

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def blocks(self) -> tuple[FeatureBlock, ...]:
        return tuple(
            FeatureBlock(f"metadata.{key}", at * self._buckets, (at + 1) * self._buckets)
            for at, key in enumerate(self._keys)
        )

    def extract(self, request: RoutingRequest) -> FeatureArray:
        """The labels: (len(keys) * buckets,), at most one entry of ±1 per key."""
        features = np.zeros(len(self._names), dtype=np.float32)
        for at, key in enumerate(self._keys):
            label = _label(request.metadata.get(key))
            if label is not None:
                bucket, sign = bucket_of(key, label, self._buckets)
                features[at * self._buckets + bucket] = sign
        return features


def _label(value: object) -> str | None:
    if isinstance(value, str):
        return value[:_VALUE_CHARS] or None
    if isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits; no label is that long.
        return str(value) if value.bit_length() <= 256 else None
    return None
