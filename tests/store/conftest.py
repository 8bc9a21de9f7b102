"""A state of each backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.store import Store
from tests.support.exporter import open_store

BACKENDS = ("sqlite", pytest.param("postgres", marks=pytest.mark.e2e))


def url_of(request: pytest.FixtureRequest, path: Path) -> str:
    """Return the URL of an empty state of the backend of a fixture."""
    if request.param == "postgres":
        created: str = request.getfixturevalue("postgres").create_schema()
        return created
    return f"sqlite:///{path}"


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, path: Path) -> str:
    """Return the URL of an empty state of each backend."""
    return url_of(request, path)


@pytest.fixture(params=BACKENDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of another state, which does not exist yet."""
    return url_of(request, tmp_path / "there" / "target.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a new state in SQLite."""
    return tmp_path / "late.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Open an empty state of each backend."""
    with closing(open_store(url)) as opened:
        yield opened
