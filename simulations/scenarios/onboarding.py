"""A new model appears after the warm-up, as it was recorded, or dear, or bad.

As in ParetoBandit's experiment (arXiv 2604.00136, section 4.4): three models are learned about
first; then there are four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simulations.scenarios.phased import (
    Phase,
    PhasedStudy,
    PhaseTrace,
    half_width,
    median_steps,
    phase_reports,
    stacked,
    steps_until,
)
from simulations.simulate import Study

DEAR_FACTOR = 20.0
BAD_LOSS = 0.3
VARIANTS = ("recorded", "cheap", "dear", "bad")


def onboarding(study: Study, model: str, variant: str, *, joins: bool = True) -> PhasedStudy:
    """``model`` is on offer in the scored phase only; with ``joins`` False, never.

    variant: ``recorded``, ``cheap`` (a tenth of its dollars), ``dear`` (twenty times them) or
    ``bad`` (a tenth of its dollars, 0.3 less quality).
    """
    arm = study.problem.arms.index(model)
    altered = replace(
        study.matrix, quality=study.matrix.quality.copy(), cost_usd=study.matrix.cost_usd.copy()
    )
    altered.cost_usd[:, arm] *= {"cheap": 0.1, "bad": 0.1, "dear": DEAR_FACTOR}.get(variant, 1.0)
    if variant == "bad":
        altered.quality[:, arm] = np.maximum(altered.quality[:, arm] - BAD_LOSS, 0.0)
    old = np.arange(len(study.problem.arms)) != arm
    return PhasedStudy(
        name="onboarding",
        study=stacked(study, altered),
        altered_from=len(study.matrix.prompts),
        trained=old,
        parts=1,
        phases=(Phase("joined", 0, True, old | joins),),
        arm=arm,
    )


def onboarding_report(
    phased: PhasedStudy,
    seeds: Sequence[tuple[PhaseTrace, ...]],
    without: Sequence[tuple[PhaseTrace, ...]],
) -> dict[str, Any]:
    """The phase; steps until half of the share that the model settles at; and the reward that
    it cost or gained against the same shuffles without it."""
    settled = [float((t.arm[2 * t.arm.size // 3 :] == phased.arm).mean()) for (t,) in seeds]
    adopted = [
        steps_until(trace, phased.arm, 0.5 * share) if share >= 0.02 else None
        for (trace,), share in zip(seeds, settled, strict=True)
    ]
    gains = np.array(
        [t.reward.mean() - u.reward.mean() for (t,), (u,) in zip(seeds, without, strict=True)]
    )
    return {
        "phases": phase_reports(phased, seeds),
        "share_settled": float(np.mean(settled)),
        "steps_to_adopt": median_steps(adopted),
        "reward_gained": float(gains.mean()),
        "reward_gained_ci95": half_width(gains),
    }
