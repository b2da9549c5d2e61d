"""What the log says of a trial, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bandit_router.types import BoolArray, FloatArray, Trial


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One decision under trial, and something that became known of it.

    pmf: (K,) as drawn from. chosen: index of the arm that was drawn, whoever answered then: what
    follows from a choice is the choice's. predicted_quality: (K,) by the champion, before.
    reward, cost_usd: None where the row does not say.
    """

    arms: tuple[str, ...]
    eligible: BoolArray
    pmf: FloatArray
    trial: Trial
    chosen: int
    predicted_quality: FloatArray
    reward: float | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class TrialPage:
    """Rows in order of arrival, and the cursor after the last."""

    rows: Sequence[TrialRow]
    cursor: tuple[int, int]
