"""Which alarms stand, over all replicas: so that one of them tells of each, and only once.

Every replica says what it sees, again and again. The one whose row is new has raised the alarm;
the one that takes away a row which nobody saw for a while has ended it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.store.engine import store_errors

# Postgres' clock, not the replicas': theirs may differ by more than the patience.
SEE = text(
    """
    INSERT INTO standing_alarms (kind, subject, evidence)
    SELECT * FROM unnest(:kinds, :subjects, :evidence) AS seen (kind, subject, evidence)
    ON CONFLICT (kind, subject) DO UPDATE SET seen_at = clock_timestamp()
    RETURNING kind, subject, evidence, raised_at, xmax = 0 AS is_new
    """
).bindparams(*(bindparam(name, type_=ARRAY(Text)) for name in ("kinds", "subjects", "evidence")))
END = text(
    "DELETE FROM standing_alarms "
    "WHERE seen_at < clock_timestamp() - make_interval(secs => :patience_s) "
    "RETURNING kind, subject, evidence, raised_at"
)
SINCE = text(
    "SELECT kind, subject, evidence, raised_at FROM standing_alarms "
    "WHERE raised_at > :moment ORDER BY raised_at"
)


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """One alarm that stands, or stood. evidence: as it was when the alarm was raised."""

    kind: str
    subject: str
    evidence: str
    raised_at: datetime


@dataclass(frozen=True, slots=True)
class AlarmTurn:
    """What this replica has to tell of, and no other: alarms that its look raised or ended."""

    raised: tuple[StandingAlarm, ...]
    ended: tuple[StandingAlarm, ...]


class StandingAlarms:
    """The alarms that any replica sees."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def raised_since(self, moment: datetime) -> tuple[StandingAlarm, ...]:
        """Those that stand and were raised after a moment. Raises StoreUnavailable."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                found = await connection.execute(SINCE, {"moment": moment})
                return tuple(StandingAlarm(*row) for row in found)

    async def see(self, found: Sequence[tuple[str, str, str]], patience_s: float) -> AlarmTurn:
        """Say that these stand: kind, subject and evidence of each, no pair twice.

        patience_s: an alarm is over once no replica has seen it for so long; several times the
        interval between looks. Raises StoreUnavailable, and then nothing is anybody's to tell.
        """
        # In one order everywhere, so that two replicas wait for each other and never deadlock.
        columns = tuple(zip(*sorted(found), strict=True)) or ((), (), ())
        seen = {
            name: list(column)
            for name, column in zip(("kinds", "subjects", "evidence"), columns, strict=True)
        }
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                stand = (await connection.execute(SEE, seen)).all() if found else []
                over = (await connection.execute(END, {"patience_s": patience_s})).all()
        return AlarmTurn(
            raised=tuple(StandingAlarm(*row[:4]) for row in stand if row.is_new),
            ended=tuple(StandingAlarm(*row) for row in over),
        )
