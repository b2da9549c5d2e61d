"""A table from task to model, and a small classifier that tells the task from the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from bandit_router.heads import HeadBank
from bandit_router.policies.base import Context
from bandit_router.policies.ladder import CHEAP, MIDDLE, STRONG, rung_pmf
from bandit_router.policies.linear import LinearPolicy
from bandit_router.types import BoolArray, FloatArray


class Task(StrEnum):
    """What a request asks for."""

    CODE = "code"
    REASONING = "reasoning"
    TRANSFORM = "transform"
    WRITE = "write"
    EXPLAIN = "explain"
    CHOICE = "choice"
    OTHER = "other"


HEIGHT_OF: Mapping[Task, float] = {
    Task.CODE: STRONG,
    Task.REASONING: STRONG,
    Task.WRITE: MIDDLE,
    Task.EXPLAIN: MIDDLE,
    Task.CHOICE: MIDDLE,
    Task.TRANSFORM: CHEAP,
    Task.OTHER: CHEAP,
}
# One mark of code in running text is no programming task; three in four of "several" are.
CODE_FROM = 0.75


@dataclass(frozen=True)
class Capability(LinearPolicy):
    """The rung that the table gives for the request's task."""

    name: str = "capability"
    adaptive: ClassVar[bool] = False

    def pmf(self, state: HeadBank, context: Context, eligible: BoolArray) -> FloatArray:
        return rung_pmf(context, eligible, HEIGHT_OF[task_of(context)])


def task_of(context: Context) -> Task:
    """The first that fits, from the surface of the prompt."""
    if context.feature("code") >= CODE_FROM:
        return Task.CODE
    if context.feature("reasoning") > 0.0 or context.feature("step_by_step") > 0.0:
        return Task.REASONING
    if context.feature("options") > 0.0:
        return Task.CHOICE
    if context.feature("asks_to_transform") > 0.0:
        return Task.TRANSFORM
    if context.feature("asks_to_write") > 0.0:
        return Task.WRITE
    if context.feature("asks_to_explain") > 0.0:
        return Task.EXPLAIN
    return Task.OTHER
