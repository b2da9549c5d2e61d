"""A cheaper model first, checks of its answer, then a stronger model on the same request."""

from bandit_router.cascade.answers import CheckedAnswer, answer_of_body, answer_of_pieces
from bandit_router.cascade.checks import Finding, Verdict, judged, pure_finding
from bandit_router.cascade.stages import CASCADE, ESCALATED_FROM, first_stage, second_stage

__all__ = [
    "CASCADE",
    "ESCALATED_FROM",
    "CheckedAnswer",
    "Finding",
    "Verdict",
    "answer_of_body",
    "answer_of_pieces",
    "first_stage",
    "judged",
    "pure_finding",
    "second_stage",
]
