"""Notice when a model's calls fail more often than they did: bets on each call's end.

What a decision asks of one model is one call, retries included, and it failed where any attempt
did: retries fail together, so that bets on each of them would count one mishap several times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bandit_router.alarms import FAILURE, KEPT_ROWS, At, Watch, after_bets
from bandit_router.bets import bounded_gains
from bandit_router.types import FloatArray, Observation

# Before any call: one of fifty is expected to fail, as if ten had been seen.
PRIOR_CALLS = 10.0
PRIOR_RATE = 0.02
# The rate may be off by so much, beside its own uncertainty.
TOLERANCE = 0.01
# The rate is that of about so many calls.
MEMORY_CALLS = 1_000.0


def rates(watch: Watch) -> FloatArray:
    """(K,) share of each arm's calls that is expected to fail."""
    calls = watch.rows[:, FAILURE] + PRIOR_CALLS
    return np.asarray((watch.failed + PRIOR_CALLS * PRIOR_RATE) / calls)


def after_row(watch: Watch, arm: int, row: Observation, at: At) -> Watch:
    """The watch after one row of the log; most are about no call and change nothing."""
    if row.failed is None or not (row.failed or row.answered):
        return watch
    return after_call(watch, arm, row.failed, at)


def after_call(watch: Watch, arm: int, failed: bool, at: At) -> Watch:
    """The watch after one call of an arm; an alarm makes the calls before it count little."""
    rate = float(rates(watch)[arm])
    sd = float(np.sqrt(rate * (1.0 - rate) / (watch.rows[arm, FAILURE] + PRIOR_CALLS)))
    before = watch
    gains = bounded_gains(float(failed), rate, sd + TOLERANCE)
    watch = after_bets(before, arm, FAILURE, gains, at)
    rows, failures = watch.rows.copy(), watch.failed.copy()
    rows[arm, FAILURE] += 1.0
    failures[arm] += float(failed)
    most = MEMORY_CALLS if watch.raised_at is before.raised_at else KEPT_ROWS
    share = min(1.0, most / float(rows[arm, FAILURE]))
    rows[arm, FAILURE] *= share
    failures[arm] *= share
    return replace(watch, rows=rows, failed=failures)
