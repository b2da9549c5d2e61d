"""Limits in calendar windows: what is claimed before a call, and whether it still fits.

A claim fits while what is booked lies below the limit, so a window may be passed by one claim
at most: a limit smaller than a single claim can still be used. A strict one is never passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

STARTS = {
    "minute": {"second": 0, "microsecond": 0},
    "hour": {"minute": 0, "second": 0, "microsecond": 0},
    "day": {"hour": 0, "minute": 0, "second": 0, "microsecond": 0},
    "month": {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0},
    # A session is counted in the month: it is idle, and so over, long before a month is.
    "session": {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0},
}
# Longer than the longest window: the first of the next month lies within it.
LONGEST = timedelta(days=32)
LENGTHS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "month": LONGEST,
    "session": LONGEST,
}


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One subject's (``key:7``, ``tenant:acme``) minute, hour, day or month of UTC."""

    subject: str
    span: str
    starts_at: datetime


@dataclass(frozen=True, slots=True)
class Bound:
    """Most of one thing (``requests``, ``tokens`` or ``usd``) in a subject's windows of a span.

    strict: a claim must fit whole beside what is booked, so that the window is never passed.
    """

    subject: str
    span: str
    what: str
    most: float
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What one call may take at most, and the bounds that it must fit under.

    booked_in: (subject, span) of every window that it is booked in, bounded or not.
    """

    decision_id: UUID
    at: datetime
    bounds: tuple[Bound, ...]
    booked_in: tuple[tuple[str, str], ...]
    tokens: int
    cost_usd: float

    @property
    def windows(self) -> tuple[Window, ...]:
        """Where it is booked."""
        return tuple(
            Window(subject, span, span_start(span, self.at)) for subject, span in self.booked_in
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What is booked in one window."""

    requests: int = 0
    tokens: int = 0
    cost_usd: float = 0.0

    def of(self, what: str) -> float:
        """The booked amount of one thing."""
        return self.cost_usd if what == "usd" else float(getattr(self, what))

    def plus(self, requests: int, tokens: int, cost_usd: float) -> Usage:
        """This and more; an unbooking is negative."""
        return Usage(self.requests + requests, self.tokens + tokens, self.cost_usd + cost_usd)


@dataclass(frozen=True, slots=True)
class Headroom:
    """What is left of the tightest limit on one thing, ``requests`` or ``tokens``."""

    what: str
    most: float
    left: float
    resets_in_s: float


def span_start(span: str, moment: datetime) -> datetime:
    """When the window that holds a moment (in UTC) began."""
    return moment.replace(**STARTS[span])  # type: ignore[arg-type]


def seconds_left(span: str, moment: datetime) -> float:
    """Seconds until the window that holds a moment ends."""
    starts_at = span_start(span, moment)
    return (span_start(span, starts_at + LENGTHS[span]) - moment).total_seconds()


def exceeded(claim: Claim, usage: Mapping[Window, Usage]) -> Bound | None:
    """The bound that a claim does not fit under, the one that lasts longest; None if it fits."""
    full: Sequence[Bound] = [bound for bound in claim.bounds if _is_full(bound, claim, usage)]
    return max(full, key=lambda bound: LENGTHS[bound.span], default=None)


def _is_full(bound: Bound, claim: Claim, usage: Mapping[Window, Usage]) -> bool:
    window = Window(bound.subject, bound.span, span_start(bound.span, claim.at))
    booked = usage[window].of(bound.what)
    claimed = Usage(1, claim.tokens, claim.cost_usd).of(bound.what) if bound.strict else 0.0
    return booked >= bound.most or booked + claimed > bound.most


def headroom(claim: Claim, usage: Mapping[Window, Usage]) -> tuple[Headroom, ...]:
    """What the claim's caller has left under the limits that are nearest to their end."""
    found = []
    for what in ("requests", "tokens"):
        rooms = [
            Headroom(what, bound.most, bound.most - booked, seconds_left(bound.span, claim.at))
            for bound, booked in _booked_under(claim, usage)
            if bound.what == what
        ]
        if rooms:
            found.append(min(rooms, key=lambda room: (room.left / room.most, -room.resets_in_s)))
    return tuple(found)


def _booked_under(claim: Claim, usage: Mapping[Window, Usage]) -> Iterator[tuple[Bound, float]]:
    for bound in claim.bounds:
        window = Window(bound.subject, bound.span, span_start(bound.span, claim.at))
        yield bound, usage[window].of(bound.what)
