"""Worlds that change under the router: each file one change, as phases of a replay."""

from simulations.scenarios.onboarding import VARIANTS, onboarding, onboarding_report
from simulations.scenarios.phased import PhasedStudy, run_phased, with_budget
from simulations.scenarios.price_drift import drift_report, price_drift
from simulations.scenarios.silent_failure import failure_report, silent_failure

__all__ = [
    "VARIANTS",
    "PhasedStudy",
    "drift_report",
    "failure_report",
    "onboarding",
    "onboarding_report",
    "price_drift",
    "run_phased",
    "silent_failure",
    "with_budget",
]
