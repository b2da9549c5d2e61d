"""What is said of each answer and by whom, where that is not the plain truth."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bandit_router.config import FeedbackConfig
from bandit_router.trust import Ledger
from bandit_router.types import FloatArray, IntArray

METRIC = "quality"


@dataclass(frozen=True, slots=True)
class Posting:
    """What would be posted of each request of a replay.

    value: (n, K) by arm. source: (n,) who posts it, as an index. trust: how far sources are
    believed; None believes all.
    """

    value: FloatArray
    source: IntArray
    trust: FeedbackConfig | None = None


class Ears:
    """Hears what is posted, and holds sources against each other as the service does."""

    def __init__(self, posting: Posting | None) -> None:
        self._posting = posting
        trust = None if posting is None else posting.trust
        self._ledger = None if trust is None else Ledger(trust)
        self._steps: dict[int, list[int]] = defaultdict(list)

    def hear(self, step: int, arm: str, residual: float) -> tuple[float, list[int]]:
        """What the signal on a request counts, within [0, 1]; and the requests whose rewards
        are to be taken out since their source is found not to be believed."""
        if self._posting is None or self._ledger is None:
            return 1.0, []
        source = int(self._posting.source[step])
        name = str(source)
        before = len(self._ledger.verdicts)
        self._ledger.enter((name, METRIC, arm), residual)
        if len(self._ledger.verdicts) > before:
            return 0.0, self._steps.pop(source)
        believed = self._ledger.believed((name, METRIC, arm), residual)
        if believed > 0.0:
            self._steps[source].append(step)
        return believed, []
