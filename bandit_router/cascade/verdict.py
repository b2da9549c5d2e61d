"""What a check can say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bandit_router.config_cascade import CheckConfig


class Verdict(StrEnum):
    """``unknown`` where a check could not be made: the answer is not given then, but nothing is
    said against the model."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check, or all of them together, say of an answer. check: its kind; "" of all."""

    verdict: Verdict
    check: str = ""
    reason: str = ""

    @classmethod
    def passed(cls, check: CheckConfig) -> Finding:
        return cls(Verdict.PASSED, check.kind.value)

    @classmethod
    def failed(cls, check: CheckConfig, reason: str) -> Finding:
        return cls(Verdict.FAILED, check.kind.value, reason)

    @classmethod
    def unknown(cls, check: CheckConfig, reason: str) -> Finding:
        return cls(Verdict.UNKNOWN, check.kind.value, reason)


ALL_PASSED = Finding(Verdict.PASSED)
UNCHECKED = Finding(Verdict.UNKNOWN)
