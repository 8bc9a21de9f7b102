from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import ConfigError, StoreError
from late_exporter.model import Batch, Coverage, IncCounter, LogEntry, Observation, Scope
from late_exporter.store import Store, open_snapshot, open_store, queries

PUBLISHING, CONNECTIONS = Scope("acme", "publishing"), Scope("acme", "connections")
LOGS = "late_publishing_logs_total"


def sighting(number: int, status: str = "success") -> Observation:
    """A log in a status, and what it counts."""
    entry = LogEntry(key=f"log{number}", status=status, created=number)
    return Observation(entry, (IncCounter(LOGS, ("acme", "tiktok", "publish", status)),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "a folder with ? and %20" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A state with two logs, open for writing."""
    store = open_store(f"sqlite:///{path}")
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    store.commit(
        PUBLISHING, Batch(committed_at=7.0, observations=[sighting(1), sighting(2, "pending")], coverage=coverage)
    )
    yield store
    store.close()


def test_a_state_in_use_can_be_read(store: Store, path: Path) -> None:
    """All that the writing process has committed is there, and the lock is of no concern."""
    with open_snapshot(f"sqlite:///{path}") as records:
        assert [PUBLISHING] == records.scopes
        assert store.series_values() == records.series_values()
        assert store.feed_state(PUBLISHING) == records.feed_state(PUBLISHING)
        assert [("log1", "success", 1), ("log2", "pending", 2)] == list(records.recorded_statuses(PUBLISHING))
        assert [] == list(records.recorded_statuses(CONNECTIONS))


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 250])
def test_however_many_logs_are_looked_up_the_statement_is_the_same(store: Store, path: Path, number: int) -> None:
    """SQLite keeps what it has compiled: a text for each number of keys would be a leak up to all of them."""
    asked: set[str] = set()
    store.commit(PUBLISHING, Batch(committed_at=8.0, observations=[sighting(at) for at in range(3, 400)]))

    class Recorder(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            asked.add(sql)
            return super().execute(sql, *values)  # type: ignore[arg-type]

    with closing(sqlite3.connect(path, factory=Recorder)) as connection:
        found = queries.stored_statuses(connection, 1, [f"log{at}" for at in range(1, number + 1)] + ["unknown"])
    assert {f"log{at}": {"pending" if at == 2 else "success"} for at in range(1, number + 1)} == found
    assert {queries.LOOKUP} == asked


def test_logs_that_are_yet_to_be_recognized(store: Store, path: Path) -> None:
    """After a switch of generations they are known by the keys they are shown under, and nothing is written."""
    old = LogEntry(key="log3", status="pending", created=3, fingerprint="a" * 12)
    store.commit(PUBLISHING, Batch(committed_at=8.0, observations=[Observation(old, ())]))
    store.begin_rekey(PUBLISHING, Coverage(retention_floor=0, complete_since=1, is_synced=True, generation="zernio"))
    shown, new = (
        LogEntry(key=f"000000000000{at}-{'a' * 12}=b.0", status="success", created=at, fingerprint="a" * 12)
        for at in (3, 4)
    )
    with open_snapshot(f"sqlite:///{path}") as records:
        before = list(records.recorded_statuses(PUBLISHING))
        settling = records.lookup(PUBLISHING, [shown, new], has_pending=True)
        lasting = records.lookup(PUBLISHING, [shown, new], has_pending=False)
        assert before == list(records.recorded_statuses(PUBLISHING))
    assert {shown.key: {"pending"}} == settling.statuses
    assert {shown.key: {"success"}} == lasting.statuses
    assert {f"0000000000003-{'a' * 12}@log3"} == settling.former_keys


def test_what_is_read_is_of_one_moment(store: Store, path: Path) -> None:
    """What is committed after the state was opened is not seen, and commits do not wait."""
    with open_snapshot(f"sqlite:///{path}") as records:
        before = records.series_values()
        store.commit(PUBLISHING, Batch(committed_at=8.0, observations=[sighting(2), sighting(3)]))
        assert 2 == len(list(records.recorded_statuses(PUBLISHING)))
        assert before == records.series_values() != store.series_values()
    with open_snapshot(f"sqlite:///{path}") as records:
        assert 4 == len(list(records.recorded_statuses(PUBLISHING)))


def test_reading_creates_nothing_and_changes_nothing(path: Path) -> None:
    """A state that is not there is told, not made; one that is there cannot be written to."""
    with pytest.raises(StoreError, match="there is no state"):
        open_snapshot(f"sqlite:///{path}")
    assert not path.parent.exists()
    open_store(f"sqlite:///{path}").close()
    with open_snapshot(f"sqlite:///{path}") as records, pytest.raises(sqlite3.OperationalError, match="readonly"):
        records._connection.execute("DELETE FROM scope")  # noqa: SLF001 - that it cannot


@pytest.mark.parametrize("url", ["sqlite://", "postgresql://localhost/late"])
def test_what_cannot_be_read(url: str) -> None:
    """Memory of another process, and what is no state."""
    with pytest.raises((StoreError, ConfigError)):
        open_snapshot(url)


def test_foreign_files(tmp_path: Path) -> None:
    """A file of others is named, and left as it is."""
    text, other, newer = tmp_path / "text", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("not a database")
    for file, pragma in ((other, "application_id = 5"), (newer, "user_version = 99")):
        if file == newer:
            open_store(f"sqlite:///{newer}").close()
        with sqlite3.connect(file) as connection:
            connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE more (a)")
        connection.close()
    for file, reason in ((text, "not a state"), (other, "another program"), (newer, "a newer late-exporter")):
        before = file.read_bytes()
        with pytest.raises(StoreError, match=reason):
            open_snapshot(f"sqlite:///{file}")
        assert before == file.read_bytes()
