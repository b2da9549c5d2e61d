"""From the router's Postgres to a file of logged traffic, a page at a time."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from bandit_router.errors import DataError
from bandit_router.store.engine import make_engine
from bandit_router.store.traffic_store import TrafficStore
from simulations.logs.files import write_traffic
from simulations.logs.schema import TYPES

PAGE_ROWS = 20_000
_AGO = re.compile(r"^(\d+)\s*(m|h|d|w)$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """A time as people write it: ``2026-03-01``, ``2026-03-01T12:00Z``, or ``7d`` for seven
    days ago (m, h, d, w). Without a time zone it is UTC. Raises DataError."""
    ago = _AGO.match(text.strip())
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DataError(
            f"'{text}' is no time: write 2026-03-01, 2026-03-01T12:00Z, or 7d for seven days ago"
        ) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


async def export_pages(
    url: str,
    folder: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    tenant: str | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    on_rows: Callable[[int], None] = lambda rows: None,
    page_rows: int = PAGE_ROWS,
) -> int:
    """Write the decisions as Parquet pieces into a folder; returns how many.

    Memory is that of one page. Raises StoreError, or DataError where the time holds none.
    """
    engine = make_engine(url, pool_size=1)
    try:
        store = TrafficStore(engine, since=since, until=until, tenant=tenant)
        on_total(await store.count())
        written = 0
        async for page in store.pages(page_rows):
            page_frame(page).write_parquet(folder / f"{written:012d}.parquet")
            written += len(page)
            on_rows(len(page))
    finally:
        await engine.dispose()
    if written == 0:
        raise DataError("the log has no decision in this time; give an earlier --since")
    return written


def page_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as the store gives them, in the log's schema."""
    return pl.DataFrame(
        [
            {**row, "metadata": json.dumps(row["metadata"]) if row["metadata"] else None}
            for row in rows
        ],
        schema=TYPES,
    )


@contextmanager
def pieces_folder() -> Iterator[Path]:
    """A temporary folder for the pieces of one export."""
    with tempfile.TemporaryDirectory(prefix="bandit-router-log-") as folder:
        yield Path(folder)


def join_pieces(folder: Path, out: Path) -> None:
    """The pieces as one file in the format of its name; the file appears whole or not at all."""
    unfinished = out.with_name(f".{out.stem}.unfinished{out.suffix}")
    try:
        write_traffic(pl.scan_parquet(folder / "*.parquet"), unfinished)
        unfinished.replace(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
