"""Other requests than were learned from: first the short prompts, then the long ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulations.scenarios.phased import Phase, PhasedStudy
from simulations.simulate import Study


def traffic_shift(study: Study, arm: int) -> PhasedStudy:
    """The shorter half of all prompts is learned from, the longer half scored.

    arm: the model whose share is reported.
    """
    rows = np.sort(np.concatenate([study.warmup, study.score]))
    length = np.array([len(study.matrix.prompts[row]) for row in rows])
    # Ranks, so that ties do not all fall into one half.
    rank = np.argsort(np.argsort(length, kind="stable"), kind="stable")
    short = rank < rows.size // 2
    everyone = np.ones(len(study.problem.arms), dtype=np.bool_)
    return PhasedStudy(
        name="traffic_shift",
        study=replace(study, warmup=rows[short], score=rows[~short]),
        altered_from=0,
        trained=everyone,
        parts=1,
        phases=(Phase("shifted", 0, False, everyone),),
        arm=arm,
    )
