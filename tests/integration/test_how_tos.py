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
    for name, at_least in (("quick-start", 9),):
        assert reader.read(DOCS / f"{name}.md") >= at_least, name


@pytest.mark.parametrize("name", ["deploy"])
def test_a_page_that_begins_from_nothing_works(name: str, reader: PageReader) -> None:
    assert reader.read(DOCS / f"{name}.md") > 2
