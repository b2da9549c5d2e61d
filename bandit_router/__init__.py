"""A router in front of language models that learns from feedback."""

__version__ = "0.1.0"
