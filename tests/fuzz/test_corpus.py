"""Every input of the corpus costs at most the field or the row that it is in.

A file holds one JSON text that an API may send as any value. Add what a fuzz test finds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.whole_path import LISTS, Rows, follow, page_of

pytestmark = pytest.mark.exhaustive

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize(("generation", "feed"), LISTS)
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path, generation: str, feed: str) -> None:
    """As each field of a row, as a row and as the pagination, it costs none of the other rows."""
    rows, value = Rows(generation, feed), path.read_bytes().decode("utf-8", "surrogateescape").rstrip("\n")
    changed = [rows.changed(name, value, number) for number, name in enumerate(rows.names)]
    page = page_of([*rows.good, value, *changed], value)
    follow(rows, page.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus_as_a_whole_response(path: Path) -> None:
    """As a whole response it is an error or a page, and the next poll succeeds."""
    follow(Rows("late", "publishing"), path.read_bytes())
