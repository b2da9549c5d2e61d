"""Off-policy evaluation: what another policy would have earned and cost, from the log."""

from bandit_router.ope.estimate import Estimate, Limits, Refusal, RefusalReason
from bandit_router.ope.rounds import (
    OUTCOMES,
    REMEDIES,
    LoggedRounds,
    joined,
    logged_rounds,
    row_problems,
)
from bandit_router.ope.targets import Target, fixed, logging_policy, mix

__all__ = [
    "OUTCOMES",
    "REMEDIES",
    "Estimate",
    "Limits",
    "LoggedRounds",
    "Refusal",
    "RefusalReason",
    "Target",
    "fixed",
    "joined",
    "logged_rounds",
    "logging_policy",
    "mix",
    "row_problems",
]
