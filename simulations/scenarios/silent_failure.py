"""A model's answers lose quality without an error, for a while: phases normal, failed, restored.

As in ParetoBandit's experiment (arXiv 2604.00136, section 4.3): every answer of the failed model
is worth 0.75 and costs nothing; the third phase passes over the first one's prompts again.
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

FAILED_QUALITY = 0.75


def silent_failure(study: Study, model: str, quality: float = FAILED_QUALITY) -> PhasedStudy:
    """``model`` answers at ``quality``, for nothing, throughout the second phase."""
    arm = study.problem.arms.index(model)
    altered = replace(
        study.matrix, quality=study.matrix.quality.copy(), cost_usd=study.matrix.cost_usd.copy()
    )
    there = study.matrix.known[:, arm]
    altered.quality[there, arm] = quality
    altered.cost_usd[there, arm] = 0.0
    return there_and_back("failure", study, altered, arm, "failed")


def failure_report(phased: PhasedStudy, seeds: Sequence[tuple[PhaseTrace, ...]]) -> dict[str, Any]:
    """Phases, and how soon the restored model was back at half of its share before."""
    regained = []
    for normal, _, restored in seeds:
        share = 0.5 * float((normal.arm == phased.arm).mean())
        regained.append(steps_until(restored, phased.arm, share) if share > 0.0 else 0)
    return {"phases": phase_reports(phased, seeds), "steps_to_regain": median_steps(regained)}
