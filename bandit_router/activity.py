"""How often each arm was tried lately: what forced looks are decided by."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from bandit_router.exploration import SECONDS_PER_DAY, Activity

# More pulls of one arm than this in a day need no counting: no look is ever due.
MOST_KEPT = 10_000


class ActivityLog:
    """Pulls of the last day per arm, counted where decisions are made.

    Times are seconds on one clock, handed in. What other replicas do is not counted between
    two calls of ``restore``; a look too many is the worst of it.
    """

    def __init__(self, arm_count: int) -> None:
        self._pulled_at: list[deque[float]] = [deque(maxlen=MOST_KEPT) for _ in range(arm_count)]
        self._last: list[float] = [-np.inf] * arm_count
        self._looks: deque[tuple[float, float]] = deque()

    def restore(
        self,
        now_s: float,
        pulls: Sequence[int],
        idle_s: Sequence[float],
        look_spend_usd: float,
    ) -> None:
        """Replace what is known by what the log says of the last day. All (K,)."""
        for arm, (count, idle) in enumerate(zip(pulls, idle_s, strict=True)):
            self._last[arm] = now_s - idle
            kept = deque([now_s - idle] * min(count, MOST_KEPT), maxlen=MOST_KEPT)
            self._pulled_at[arm] = kept
        self._looks = deque([(now_s, look_spend_usd)])

    def pulled(self, now_s: float, arm: int, look_cost_usd: float = 0.0) -> None:
        """Note a decision for ``arm``; look_cost_usd: expected dollars if it was a forced look."""
        self._pulled_at[arm].append(now_s)
        self._last[arm] = now_s
        if look_cost_usd > 0.0:
            self._looks.append((now_s, look_cost_usd))

    def at(self, now_s: float) -> Activity:
        """The last day as seen from ``now_s``."""
        horizon = now_s - SECONDS_PER_DAY
        for times in self._pulled_at:
            while times and times[0] < horizon:
                times.popleft()
        while self._looks and self._looks[0][0] < horizon:
            self._looks.popleft()
        return Activity(
            pulls=np.array([float(len(times)) for times in self._pulled_at]),
            idle_s=np.array([now_s - last for last in self._last]),
            look_spend_usd=sum(dollars for _, dollars in self._looks),
        )
