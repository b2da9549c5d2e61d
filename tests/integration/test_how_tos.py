"""The how-to pages do what they say: their blocks are run, in order, against a real router."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_runner import PageReader

DOCS = Path(__file__).parents[2] / "docs"

# A page's blocks start processes, on a machine that others use too.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def reader() -> Iterator[PageReader]:
    folder = Path(tempfile.mkdtemp(prefix="br-"))
    folder.chmod(0o755)
    made = PageReader(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


def test_a_newcomer_gets_through_the_quick_start_and_what_follows_it(reader: PageReader) -> None:
    # What these pages do, they do with the router of the quick start.
    pages = (
        "quick-start",
        "feedback",
        "steering",
        "limits",
        "observability",
        "operating",
        "cascade",
        "failover",
        "challengers",
    )
    for name in pages:
        assert reader.read(DOCS / f"{name}.md") >= 2, name


@pytest.mark.parametrize("names", [("deploy",), ("simulation", "evaluation")], ids="+".join)
def test_pages_that_begin_from_nothing_work(names: tuple[str, ...], reader: PageReader) -> None:
    for name in names:
        assert reader.read(DOCS / f"{name}.md") >= 2, name
