"""Sources of feedback as they stand in the database: tallies, verdicts, and who has most to say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bandit_router.protocols import OpenLedger, SourceLedger
from bandit_router.store.engine import store_errors
from bandit_router.store.tables import feedback_sources, feedback_verdicts
from bandit_router.types import Tally

OWN = text("SELECT * FROM feedback_sources WHERE source = ANY(:sources)").bindparams(
    bindparam("sources", type_=ARRAY(Text))
)
TOTALS = text(
    "SELECT metric, arm, sum(signals) AS signals, sum(total) AS total, sum(square) AS square "
    "FROM feedback_sources s WHERE NOT EXISTS (SELECT FROM feedback_verdicts v "
    "WHERE v.source = s.source AND v.quarantined) GROUP BY metric, arm"
)
MOST = text(
    "SELECT source, sum(signals) AS signals FROM feedback_sources s WHERE NOT EXISTS "
    "(SELECT FROM feedback_verdicts v WHERE v.source = s.source AND v.quarantined) "
    "GROUP BY source ORDER BY 2 DESC, 1 LIMIT 1"
)


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


async def read_verdicts(connection: AsyncConnection) -> dict[str, Verdict]:
    """Every verdict, by source."""
    found = await connection.execute(select(feedback_verdicts))
    return {row["source"]: Verdict(**row) for row in found.mappings()}


async def read_ledger(
    connection: AsyncConnection,
    open_ledger: OpenLedger,
    sources: Collection[str],
    verdicts: dict[str, Verdict],
) -> SourceLedger:
    """The ledger at what is known of these sources, and of all together."""
    own: dict[tuple[str, str, str], Tally] = {}
    counts: dict[str, float] = {}
    for row in await connection.execute(OWN, {"sources": sorted(sources)}):
        own[row.source, row.metric, row.arm] = Tally(row.signals, row.total, row.square)
        counts[row.source] = counts.get(row.source, 0.0) + row.signals
    totals = {
        (row.metric, row.arm): Tally(row.signals, row.total, row.square)
        for row in await connection.execute(TOTALS)
    }
    for row in await connection.execute(MOST):
        counts[row.source] = row.signals
    quarantined = [name for name, verdict in verdicts.items() if verdict.quarantined]
    trusted = [
        name
        for name, verdict in verdicts.items()
        if verdict.by_operator and not verdict.quarantined
    ]
    return open_ledger(own, totals, counts, quarantined, trusted)


async def write_ledger(connection: AsyncConnection, ledger: SourceLedger, now: datetime) -> None:
    """Add what was entered, and the new verdicts.

    Rows are taken in the order of their keys, so that two groups wait instead of deadlocking.
    """
    for key in sorted(ledger.changes):
        change = ledger.changes[key]
        added = insert(feedback_sources).values(
            source=key[0],
            metric=key[1],
            arm=key[2],
            signals=change.count,
            total=change.total,
            square=change.square,
        )
        await connection.execute(
            added.on_conflict_do_update(
                index_elements=["source", "metric", "arm"],
                set_={
                    name: feedback_sources.c[name] + added.excluded[name]
                    for name in ("signals", "total", "square")
                },
            )
        )
    for source, reason in sorted(ledger.verdicts.items()):
        verdict = insert(feedback_verdicts).values(
            source=source,
            reason=reason,
            decided_at=now,
            by_operator=False,
            quarantined=True,
            settled=False,
        )
        # Another replica may have come to the same verdict meanwhile.
        await connection.execute(verdict.on_conflict_do_nothing(index_elements=["source"]))


class SourceTable:
    """What operators see and decide of the sources of feedback."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reports(self) -> list[SourceReport]:
        """Every source, the one with the most signals first."""
        with store_errors(self._engine):
            async with self._engine.connect() as connection:
                verdicts = await read_verdicts(connection)
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
