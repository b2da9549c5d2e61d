"""How far a source of feedback is believed: no key may drag a posterior.

Three bounds. A single signal far off what others say of an arm counts little while its source is
new. A source counts for no more than its share of what all sources say of an arm. And one
that speaks of an arm clearly otherwise than the others do, measured against what was predicted
for the very requests that each of them judged, is set aside with the reason; its earlier signals
are then taken out again. A source that is merely stricter on every arm alike is not: that moves
no choice.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bandit_router.config import FeedbackConfig
from bandit_router.config_cascade import CHECK_SOURCE
from bandit_router.protocols import SourceKey
from bandit_router.types import Tally

# Signals that a source is heard with before its share of an arm is bounded, and those that both
# it and the others must have on an arm before it is held against them.
FREE_SIGNALS = 10.0
LEAST_SIGNALS = 20.0
# A new source's signal further off than so many standard deviations of the others' counts less,
# by this power of how much further. While little is known of how the others' scatter, it is as if
# so many of theirs had been seen to scatter by so much: a key that lies from the first request on
# meets models of which hardly anybody has spoken.
OUTLIER_SDS = 3.0
OUTLIER_POWER = 4.0
ASSUMED_SIGNALS = 2.0
ASSUMED_SD = 0.3
# A source is set aside when it is off by more than this much quality, and by so many standard
# errors: with that many, chance does it less than once in a million.
LEAST_GAP = 0.25
# ... or more than this, while too little is known of what it says of other arms.
LEAST_GAP_ALONE = 0.4
LEAST_SIGNALS_ELSEWHERE = 5.0
LEAST_ERRORS = 5.0
# A blatant one is, before it has that many signals.
BLATANT_SIGNALS = 5.0
BLATANT_ERRORS = 10.0
# Judgements scatter at least this much, however constant those seen so far.
LEAST_SD = 0.1


@dataclass(slots=True)
class Ledger:
    """What every source has said so far, and who is set aside; see ``protocols.SourceLedger``."""

    config: FeedbackConfig
    own: dict[SourceKey, Tally] = field(default_factory=dict)
    totals: dict[tuple[str, str], Tally] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    trusted: set[str] = field(default_factory=set)
    changes: dict[SourceKey, Tally] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)

    def enter(self, key: SourceKey, residual: float, count: float = 1.0) -> None:
        """Take one signal in, or for a count of −1 out; and set its source aside if it must be."""
        source, metric, arm = key
        self.own[key] = self.own.get(key, Tally()).plus(residual, count)
        self.changes[key] = self.changes.get(key, Tally()).plus(residual, count)
        self.counts[source] = self.counts.get(source, 0.0) + count
        if source in self.quarantined:
            return
        place = (metric, arm)
        self.totals[place] = self.totals.get(place, Tally()).plus(residual, count)
        if self.config.quarantine and source not in self.trusted:
            reason = self._outlier(source, metric, arm)
            if reason is not None:
                self._set_aside(source, reason)

    def believed(self, key: SourceKey, residual: float) -> float:
        """Within [0, 1]: what one signal of the source, metric and arm counts."""
        source, metric, arm = key
        if source in self.quarantined:
            return 0.0
        most = max(self.counts.values(), default=0.0)
        if source in self.trusted or self.counts.get(source, 0.0) >= most:
            return 1.0
        own = sum(t.count for (who, _, what), t in self.own.items() if (who, what) == (source, arm))
        everyone = sum(t.count for (_, what), t in self.totals.items() if what == arm)
        share = self.config.source_share
        allowed = max(FREE_SIGNALS, share / (1.0 - share) * (everyone - own))
        within_share = min(1.0, allowed / own) if own > 0.0 else 1.0
        gap = self._gap(source, metric, arm, 0.0, 1.0)
        if gap is None or gap.own.count >= LEAST_SIGNALS:
            return within_share
        off = abs(residual - gap.others.total / gap.others.count) / (OUTLIER_SDS * gap.likely_sd)
        return float(within_share / max(1.0, off) ** OUTLIER_POWER)

    def _set_aside(self, source: str, reason: str) -> None:
        self.quarantined.add(source)
        self.verdicts[source] = reason
        for (who, metric, arm), tally in self.own.items():
            if who == source:
                self.totals[metric, arm] = self.totals[metric, arm].with_all(tally, -1.0)

    def _outlier(self, source: str, metric: str, arm: str) -> str | None:
        """Why the source is not to be believed, None where nothing speaks against it."""
        gap = self._gap(source, metric, arm, BLATANT_SIGNALS)
        if gap is None:
            return None
        blatant = gap.own.count < LEAST_SIGNALS
        # What it is off by on the other arms is its own scale, and no preference.
        elsewhere = [
            (other, what)
            for (who, of, what), other in self.own.items()
            if who == source and of == metric and what != arm
        ]
        shift = rows = 0.0
        for tally, what in elsewhere:
            theirs = self._gap(source, metric, what, LEAST_SIGNALS_ELSEWHERE)
            if theirs is not None:
                shift += tally.count * theirs.difference
                rows += tally.count
        apart = gap.difference - (shift / rows if rows else 0.0)
        least = LEAST_GAP if rows and not blatant else LEAST_GAP_ALONE
        errors = BLATANT_ERRORS if blatant else LEAST_ERRORS
        if abs(apart) < least or abs(apart) < errors * gap.error:
            return None
        return (
            f"its {gap.own.count:.0f} signals of '{metric}' on {arm} are {gap.difference:+.2f} "
            f"beside the {gap.others.count:.0f} of all others"
            + (f", and {shift / rows:+.2f} on the other models" if rows else "")
            + f" ({abs(apart) / gap.error:.0f} standard errors)"
        )

    def _gap(
        self,
        source: str,
        metric: str,
        arm: str,
        least: float,
        others_least: float = LEAST_SIGNALS,
    ) -> _Gap | None:
        own = self.own.get((source, metric, arm), Tally())
        others = self.totals.get((metric, arm), Tally()).with_all(own, -1.0)
        if own.count < least or others.count < max(others_least, own.count):
            return None
        return _Gap(own, others)


@dataclass(frozen=True, slots=True)
class _Gap:
    own: Tally
    others: Tally

    @property
    def difference(self) -> float:
        """Mean residual of the source, less that of the others."""
        return self.own.total / self.own.count - self.others.total / self.others.count

    @property
    def sd(self) -> float:
        """Standard deviation of the others' residuals."""
        mean = self.others.total / self.others.count
        return math.sqrt(max(self.others.square / self.others.count - mean * mean, LEAST_SD**2))

    @property
    def likely_sd(self) -> float:
        """The same, however few they are."""
        squares = self.others.count * self.sd**2 + ASSUMED_SIGNALS * ASSUMED_SD**2
        return math.sqrt(squares / (self.others.count + ASSUMED_SIGNALS))

    @property
    def error(self) -> float:
        """Standard error of the difference if both judged alike."""
        return self.sd * math.sqrt(1.0 / self.own.count + 1.0 / self.others.count)


def open_ledger(
    own: Mapping[SourceKey, Tally],
    totals: Mapping[tuple[str, str], Tally],
    counts: Mapping[str, float],
    quarantined: Collection[str],
    trusted: Collection[str],
    *,
    config: FeedbackConfig,
) -> Ledger:
    """See ``protocols.OpenLedger``; trusted by the configuration, and by earlier verdicts."""
    return Ledger(
        config,
        dict(own),
        dict(totals),
        dict(counts),
        set(quarantined),
        # The operator's own checks are no key that could be stolen.
        {*trusted, *config.trusted, CHECK_SOURCE},
    )
