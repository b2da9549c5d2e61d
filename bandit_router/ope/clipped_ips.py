"""Clipped IPS: no round may weigh more than a threshold."""

from __future__ import annotations

import numpy as np

from bandit_router.ope.contributions import Contributions, Estimator, Terms
from bandit_router.ope.thresholds import WEIGHTS


def clipped_ips_terms(rounds: Contributions, threshold: float) -> Terms:
    """min(w, τ)·r: biased downwards, with a bounded variance.

    Source: Ionides 2008; Bottou et al. 2013.
    """
    return Terms(weighted=np.minimum(rounds.weight, threshold) * rounds.seen * rounds.outcome)


CLIPPED_IPS = Estimator("clipped_ips", clipped_ips_terms, thresholds=WEIGHTS, untuned="ips")
