"""Which extractors there are, and how the ``[features]`` table becomes one."""

from __future__ import annotations

from collections.abc import Callable

from bandit_router.config import FeaturesConfig
from bandit_router.features.compose import ComposedExtractor
from bandit_router.features.hashed import HashedNgrams
from bandit_router.features.metadata import MetadataLabels
from bandit_router.features.minilm import MinilmEmbedding
from bandit_router.features.surface import SurfaceStatistics
from bandit_router.protocols import FeatureExtractor

EXTRACTORS: dict[str, Callable[[FeaturesConfig], FeatureExtractor]] = {
    "surface": lambda config: SurfaceStatistics(),
    "hashed": lambda config: HashedNgrams(dimension=config.text_dimension),
    "minilm": lambda config: MinilmEmbedding(dimension=config.text_dimension),
    "metadata": lambda config: MetadataLabels(config.metadata),
}


def build_extractor(config: FeaturesConfig) -> FeatureExtractor:
    """The extractor that a ``[features]`` table asks for: surface, then text, then metadata."""
    chosen = ["surface"]
    if config.text != "none":
        chosen.append(config.text)
    if config.metadata:
        chosen.append("metadata")
    return ComposedExtractor([EXTRACTORS[name](config) for name in chosen])
