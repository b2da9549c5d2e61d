"""What serves now: a learned state and its version."""

from __future__ import annotations

from dataclasses import dataclass

from bandit_router.learning import LearnedState


@dataclass(frozen=True, slots=True)
class Serving:
    """The learned state in use, and the version of the snapshot that holds it."""

    version: int
    state: LearnedState
