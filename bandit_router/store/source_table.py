"""Sources of feedback as they stand in the database: tallies, verdicts, and who has most to say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from bandit_router.protocols import OpenLedger, SourceLedger
from bandit_router.store.engine import store_errors
from bandit_router.store.fast_writes import driver_of
from bandit_router.store.tables import feedback_sources, feedback_verdicts
from bandit_router.types import Tally

VERDICTS = (
    "SELECT source, quarantined, reason, decided_at, by_operator, settled FROM feedback_verdicts"
)
# Some sources' own tallies, then what all that are believed say together, then the one of these
# with most to say. In one statement, since every group of signals asks.
STANDING = """
WITH believed AS (
    SELECT * FROM feedback_sources s WHERE NOT EXISTS
    (SELECT FROM feedback_verdicts v WHERE v.source = s.source AND v.quarantined)
)
SELECT 'own' AS kind, source, metric, arm, signals, total, square
FROM feedback_sources WHERE source = ANY($1::text[])
UNION ALL
SELECT 'all', NULL, metric, arm, sum(signals), sum(total), sum(square)
FROM believed GROUP BY metric, arm
UNION ALL
SELECT * FROM (
    SELECT 'most', source, NULL, NULL, sum(signals) AS signals, NULL::float8, NULL::float8
    FROM believed GROUP BY source ORDER BY signals DESC, source LIMIT 1
) most
"""
ADD = """
INSERT INTO feedback_sources AS s (source, metric, arm, signals, total, square)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::float8[]
)
ON CONFLICT (source, metric, arm) DO UPDATE SET signals = s.signals + excluded.signals,
    total = s.total + excluded.total, square = s.square + excluded.square
"""
# Another replica may have come to the same verdict meanwhile.
SET_ASIDE = """
INSERT INTO feedback_verdicts
    (source, reason, decided_at, by_operator, quarantined, settled)
SELECT source, reason, $3, false, true, false
FROM unnest($1::text[], $2::text[]) AS found(source, reason)
ON CONFLICT (source) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of a source. by_operator: by a person, so that no statistic overrules it.

    settled: whether the rewards that its earlier signals made follow it already.
    """

    source: str
    quarantined: bool
    reason: str
    decided_at: datetime
    by_operator: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source, for operators. tallies: per metric and model."""

    source: str
    signals: float
    tallies: dict[tuple[str, str], Tally]
    verdict: Verdict | None


async def read_verdicts(driver: asyncpg.Connection) -> dict[str, Verdict]:
    """Every verdict, by source."""
    return {row["source"]: Verdict(**row) for row in await driver.fetch(VERDICTS)}


async def read_ledger(
    driver: asyncpg.Connection,
    open_ledger: OpenLedger,
    sources: Collection[str],
    verdicts: dict[str, Verdict],
) -> SourceLedger:
    """The ledger at what is known of these sources, and of all together."""
    own: dict[tuple[str, str, str], Tally] = {}
    totals: dict[tuple[str, str], Tally] = {}
    counts: dict[str, float] = {}
    for kind, source, metric, arm, *sums in await driver.fetch(STANDING, sorted(sources)):
        if kind == "own":
            own[source, metric, arm] = Tally(*sums)
            counts[source] = counts.get(source, 0.0) + sums[0]
        elif kind == "all":
            totals[metric, arm] = Tally(*sums)
        else:
            counts[source] = sums[0]
    quarantined = [name for name, verdict in verdicts.items() if verdict.quarantined]
    trusted = [
        name
        for name, verdict in verdicts.items()
        if verdict.by_operator and not verdict.quarantined
    ]
    return open_ledger(own, totals, counts, quarantined, trusted)


async def write_ledger(driver: asyncpg.Connection, ledger: SourceLedger, now: datetime) -> None:
    """Add what was entered, and the new verdicts.

    Rows are taken in the order of their keys, so that two groups wait instead of deadlocking.
    """
    if ledger.changes:
        changes = sorted(ledger.changes.items())
        rows = [(*key, change.count, change.total, change.square) for key, change in changes]
        await driver.execute(ADD, *zip(*rows, strict=True))
    if ledger.verdicts:
        found = zip(*sorted(ledger.verdicts.items()), strict=True)
        await driver.execute(SET_ASIDE, *found, now)


class SourceTable:
    """What operators see and decide of the sources of feedback."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reports(self) -> list[SourceReport]:
        """Every source, the one with the most signals first."""
        with store_errors(self._engine):
            async with driver_of(self._engine) as driver:
                verdicts = await read_verdicts(driver)
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(feedback_sources))).all()
        tallies: dict[str, dict[tuple[str, str], Tally]] = {name: {} for name in verdicts}
        for row in rows:
            tally = Tally(row.signals, row.total, row.square)
            tallies.setdefault(row.source, {})[row.metric, row.arm] = tally
        reports = [
            SourceReport(name, sum(t.count for t in own.values()), own, verdicts.get(name))
            for name, own in tallies.items()
        ]
        return sorted(reports, key=lambda report: (-report.signals, report.source))

    async def decide(self, source: str, *, quarantined: bool, reason: str, now: datetime) -> None:
        """An operator's word on a source; the rewards of its earlier signals follow it with the
        next signal that anybody posts."""
        values = {
            "source": source,
            "quarantined": quarantined,
            "reason": reason,
            "decided_at": now,
            "by_operator": True,
            "settled": False,
        }
        decided = insert(feedback_verdicts).values(values)
        with store_errors(self._engine):
            async with self._engine.begin() as connection:
                await connection.execute(
                    decided.on_conflict_do_update(index_elements=["source"], set_=values)
                )
