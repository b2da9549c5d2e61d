"""Off-policy evaluation: what another policy would have earned and cost, from the log."""

from bandit_router.ope.blocks import Source
from bandit_router.ope.estimate import Estimate, Limits, Refusal, RefusalReason
from bandit_router.ope.evaluation import evaluate, evaluate_by_round
from bandit_router.ope.learning_replay import LearningReplay, replay_learning
from bandit_router.ope.options import METHODS, Options, Tradeoff
from bandit_router.ope.registry import ESTIMATORS
from bandit_router.ope.result import Evaluation, SegmentEstimate, difference
from bandit_router.ope.round_values import RoundValues, round_values
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
    "ESTIMATORS",
    "METHODS",
    "OUTCOMES",
    "REMEDIES",
    "Estimate",
    "Evaluation",
    "LearningReplay",
    "Limits",
    "LoggedRounds",
    "Options",
    "Refusal",
    "RefusalReason",
    "RoundValues",
    "SegmentEstimate",
    "Source",
    "Target",
    "Tradeoff",
    "difference",
    "evaluate",
    "evaluate_by_round",
    "fixed",
    "joined",
    "logged_rounds",
    "logging_policy",
    "mix",
    "replay_learning",
    "round_values",
    "row_problems",
]
