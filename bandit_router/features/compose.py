"""Several extractors side by side as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandit_router.protocols import FeatureBlock, FeatureExtractor
from bandit_router.types import FeatureArray, RoutingRequest


class ComposedExtractor:
    """Concatenates the features of its parts, in order; the version names them all."""

    def __init__(self, parts: Sequence[FeatureExtractor]) -> None:
        self._parts = tuple(parts)
        self._version = "+".join(part.version for part in self._parts)
        self._names = tuple(name for part in self._parts for name in part.names)
        blocks: list[FeatureBlock] = []
        start = 0
        for part in self._parts:
            blocks += [
                FeatureBlock(block.name, start + block.start, start + block.stop)
                for block in part.blocks
            ]
            start += len(part.names)
        self._blocks = tuple(blocks)

    @property
    def version(self) -> str:
        return self._version

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def blocks(self) -> tuple[FeatureBlock, ...]:
        return self._blocks

    def extract(self, request: RoutingRequest) -> FeatureArray:
        """The parts' features, one after the other: (n,)."""
        return np.concatenate([part.extract(request) for part in self._parts])
