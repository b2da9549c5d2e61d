"""A model cannot be reached for a while, and everybody knows: phases normal, out, restored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulations.scenarios.phased import PhasedStudy, there_and_back
from simulations.simulate import Study


def outage(study: Study, model: str) -> PhasedStudy:
    """``model`` is not on offer throughout the second phase; nothing else changes.

    Its budget's share is then to be spent on the others, and the model to be taken up again.
    """
    arm = study.problem.arms.index(model)
    phased = there_and_back("outage", study, study.matrix, arm, "out")
    others = np.arange(len(study.problem.arms)) != arm
    normal, out, restored = phased.phases
    return replace(phased, phases=(normal, replace(out, offered=others), restored))
