"""One cost budget for a whole chain: what its calls may cost together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bandit_router.types import Attempt, AttemptStatus

# A call that ended so may have been charged, whatever its bill, which nobody has seen.
MAY_BE_CHARGED = frozenset(
    {AttemptStatus.TIMEOUT, AttemptStatus.BAD_RESPONSE, AttemptStatus.STREAM_BROKEN}
)


@dataclass(frozen=True, slots=True)
class ChainBudget:
    """limit_usd: for all attempts of one decision; None is no limit. expected_usd: of one call
    by model, as predicted for this request; a model that is not there counts nothing."""

    limit_usd: float | None = None
    expected_usd: Mapping[str, float] = field(default_factory=dict)

    def allows(self, model: str, attempts: Sequence[Attempt]) -> bool:
        """Whether one more call, of this model, is expected to stay within the limit.

        The first call always may be made: the choice itself has been held to its limit.
        """
        if self.limit_usd is None or not attempts:
            return True
        return self.spent_usd(attempts) + self.expected_usd.get(model, 0.0) <= self.limit_usd

    def spent_usd(self, attempts: Sequence[Attempt]) -> float:
        """What the attempts cost, or are expected to have cost where it is not known."""
        return sum(self._cost_usd(attempt) for attempt in attempts)

    def _cost_usd(self, attempt: Attempt) -> float:
        if attempt.cost_usd is not None:
            return attempt.cost_usd
        if attempt.status in MAY_BE_CHARGED:
            return self.expected_usd.get(attempt.model, 0.0)
        return 0.0


def strictest(*limits_usd: float | None) -> float | None:
    """The smallest of the limits that are set."""
    return min((limit for limit in limits_usd if limit is not None), default=None)
