"""Features: what the router reads off a request before any model is called."""

from bandit_router.features.registry import EXTRACTORS, build_extractor

__all__ = ["EXTRACTORS", "build_extractor"]
