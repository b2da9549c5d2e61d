"""What a request may cost on average, by what is left of a budget and of the time it is for.

A budget for a day is spread over the requests that are still to come: it is planned anew with
every look at what is spent, so that whatever went otherwise than expected is made up for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# A change of traffic counts by half after about forty minutes.
RATE_HORIZON_S = 3600.0
# The first requests of a day that nothing is known of are no rate yet.
LEAST_ELAPSED_S = 600.0
# An allowance is rounded down to one of so many steps per factor e, so that λ, which is solved
# for each, is solved seldom.
STEPS_PER_E = 20.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How often requests come: per_s lately, and the count and time (s) last looked at."""

    per_s: float
    requests: int
    at_s: float


def looked_at(rate: Rate | None, requests: int, at_s: float, elapsed_s: float) -> Rate:
    """The rate after another look at a day's count, elapsed_s after it began.

    The first look takes the day so far for its rate. A count that fell began anew: a new day
    goes on as the one before ended.
    """
    if rate is None:
        return Rate(requests / max(elapsed_s, LEAST_ELAPSED_S), requests, at_s)
    passed_s = at_s - rate.at_s
    if requests < rate.requests or passed_s <= 0.0:
        return Rate(rate.per_s, requests, at_s)
    kept = math.exp(-passed_s / RATE_HORIZON_S)
    lately = (requests - rate.requests) / passed_s
    return Rate(kept * rate.per_s + (1.0 - kept) * lately, requests, at_s)


def per_request_usd(left_usd: float, requests: float) -> float:
    """The mean that what is left allows for, in dollars a request; 0 where nothing is left.

    requests: how many are expected still: of a day, its rate times the seconds left.
    """
    return max(left_usd, 0.0) / max(requests, 1.0)


def stepped(allowance_usd: float) -> float:
    """The next step below an allowance, 0 for none."""
    if allowance_usd <= 0.0:
        return 0.0
    return math.exp(math.floor(math.log(allowance_usd) * STEPS_PER_E) / STEPS_PER_E)
