"""A state is created completely or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError
from late_exporter.store import open_store
from late_exporter.store.schema import create_database, create_schema

KILL_EVERYWHERE = """
import itertools, os, pathlib, signal, sqlite3, sys
from late_exporter.store import open_store

class Countdown:
    remaining = 0

    @classmethod
    def step(cls):
        if cls.remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        cls.remaining -= 1

class DyingConnection(sqlite3.Connection):
    def execute(self, *args):
        Countdown.step()
        return super().execute(*args)

connect, replace = sqlite3.connect, pathlib.Path.replace
sqlite3.connect = lambda *args, **options: connect(*args, factory=DyingConnection, **options)
def dying_replace(self, target):
    Countdown.step()
    result = replace(self, target)
    Countdown.step()
    return result
pathlib.Path.replace = dying_replace

for number in itertools.count():
    folder = pathlib.Path(sys.argv[1], str(number))
    folder.mkdir()
    Countdown.remaining = number
    if (child := os.fork()) == 0:
        open_store(f"sqlite:///{folder}/state.db")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@pytest.mark.exhaustive
def test_a_killed_creation_leaves_no_incomplete_state(tmp_path: Path) -> None:
    """A process that is killed at any step leaves a complete state or none, and the next one leaves no other file."""
    subprocess.run([sys.executable, "-c", KILL_EVERYWHERE, str(tmp_path)], check=True, timeout=60)
    paths = [folder / "state.db" for folder in tmp_path.iterdir()]
    assert len(paths) > 15
    assert {True, False} == {path.exists() for path in paths}
    for path in paths:
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                assert [(0,)] == list(connection.execute("SELECT count(*) FROM observation"))
        with closing(open_store(f"sqlite:///{path}")) as store:
            assert {} == store.series_values()
        assert {"state.db", "state.db.lock"} == {file.name for file in path.parent.iterdir()}


def test_files_of_a_killed_creation_are_removed(tmp_path: Path) -> None:
    """The next process that creates the state removes them, and no other file."""
    names = ("state.db.abcd_123.incomplete", "state.db.abcd_123.incomplete-journal")
    others = ("state.db.20261128", "other-state.db.abcd_123.incomplete", "state.db.incomplete")
    for name in (*names, *others):
        (tmp_path / name).touch()
    open_store(f"sqlite:///{tmp_path}/state.db").close()
    assert {"state.db", "state.db.lock", *others} == {file.name for file in tmp_path.iterdir()}


def test_files_of_others_are_not_removed(tmp_path: Path) -> None:
    """The temporary file has a name of its own, whatever files there are."""
    other = tmp_path / "state.db.incomplete"
    other.write_text("precious")
    with create_database(tmp_path / "state.db") as connection:
        create_schema(connection)
    assert "precious" == other.read_text()
    assert {"state.db", "state.db.incomplete"} == {file.name for file in tmp_path.iterdir()}
    assert 0o600 == (tmp_path / "state.db").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("state.db", "database or disk is full"),
        ("nowhere/state.db", "cannot be written: No such file or directory"),
    ],
)
def test_a_failed_creation_leaves_nothing(tmp_path: Path, name: str, words: str) -> None:
    """The error names the database, and its temporary file is removed."""
    with pytest.raises(StoreError, match=rf"state\.db: {words}$"), create_database(tmp_path / name):
        raise sqlite3.OperationalError("database or disk is full")
    assert [] == list(tmp_path.iterdir())
