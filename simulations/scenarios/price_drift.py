"""A dear model becomes almost free, and dear again: phases normal, dropped, restored.

As in ParetoBandit's experiment (arXiv 2604.00136, section 4.2). The router learns of the new
price from its bills alone: the models of an outcome matrix have no list prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from simulations.scenarios.phased import (
    PhasedStudy,
    PhaseTrace,
    median_steps,
    phase_reports,
    steps_until,
    there_and_back,
)
from simulations.simulate import Study

# $0.10 and $0.10 instead of $1.25 and $10 per million tokens in and out.
PRICE_FACTOR = (0.10 + 0.10) / (1.25 + 10.0)


def price_drift(study: Study, model: str, factor: float = PRICE_FACTOR) -> PhasedStudy:
    """``model`` costs ``factor`` of its recorded dollars throughout the second phase."""
    arm = study.problem.arms.index(model)
    altered = replace(study.matrix, cost_usd=study.matrix.cost_usd.copy())
    altered.cost_usd[:, arm] *= factor
    return there_and_back("drift", study, altered, arm, "dropped")


def drift_report(phased: PhasedStudy, seeds: Sequence[tuple[PhaseTrace, ...]]) -> dict[str, Any]:
    """Phases, and how soon the model had half of the requests once it was almost free."""
    taken = [steps_until(dropped, phased.arm, 0.5) for _, dropped, _ in seeds]
    return {"phases": phase_reports(phased, seeds), "steps_to_half": median_steps(taken)}
