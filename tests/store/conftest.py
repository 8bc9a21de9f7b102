"""A state of each backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.store import Store, open_store


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.e2e)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty state of each backend."""
    if request.param == "postgres":
        created: str = request.getfixturevalue("postgres").create_schema()
        return created
    return f"sqlite:///{tmp_path / 'late.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Open an empty state of each backend."""
    with closing(open_store(url)) as opened:
        yield opened
