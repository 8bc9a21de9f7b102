from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import ConfigError, StoreError
from late_exporter.model import Batch, Coverage, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import Store, open_store, queries
from late_exporter.store.maintenance import open_snapshot
from tests.support.store import commit_batch

PUBLISHING, CONNECTIONS = Scope("acme", "publishing"), Scope("acme", "connections")
LOGS = "late_publishing_logs_total"


def observation(number: int, status: str = "success") -> Observation:
    """Return an observation with an increment."""
    entry = LogEntry(key=f"log{number}", status=status, created=number)
    return Observation(entry, (IncCounter(LOGS, ("acme", "tiktok", "publish", status)),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the state."""
    return tmp_path / "a folder with ? and %20" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Open a state with two logs."""
    store = open_store(f"sqlite:///{path}")
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    commit_batch(
        store,
        PUBLISHING,
        Batch(committed_at=7.0, observations=[observation(1), observation(2, "pending")], coverage=coverage),
    )
    yield store
    store.close()


def test_reads_a_state_in_use(store: Store, path: Path) -> None:
    """A snapshot contains everything committed, whether or not the state is locked."""
    with open_snapshot(f"sqlite:///{path}") as records:
        assert [PUBLISHING] == records.scopes
        assert store.series_values() == records.series_values()
        assert store.feed_state(PUBLISHING) == records.feed_state(PUBLISHING)
        assert [("log1", "success", 1), ("log2", "pending", 2)] == list(records.recorded_statuses(PUBLISHING))
        assert [] == list(records.recorded_statuses(CONNECTIONS))


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 250])
def test_lookups_share_one_statement(store: Store, path: Path, number: int) -> None:
    """SQLite caches compiled statements, so one per number of keys would use much memory."""
    statements: set[str] = set()
    commit_batch(store, PUBLISHING, Batch(committed_at=8.0, observations=[observation(at) for at in range(3, 400)]))

    class Recorder(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            statements.add(sql)
            return super().execute(sql, *values)  # type: ignore[arg-type]

    with closing(sqlite3.connect(path, factory=Recorder)) as connection:
        statuses = queries.stored_statuses(connection, 1, [f"log{at}" for at in range(1, number + 1)] + ["unknown"])
    assert {f"log{at}": {"pending" if at == 2 else "success"} for at in range(1, number + 1)} == statuses
    # One more for many keys, which are mostly new.
    assert {queries.LOOKUP, *([queries.ANY_BETWEEN] if number >= queries.LOOKUP_KEYS else [])} == statements


def test_new_keys_of_a_catch_up_are_not_looked_up(store: Store, path: Path) -> None:
    """A batch whose keys are all below those that are stored needs one statement; a single stored key all of them."""
    commit_batch(store, PUBLISHING, Batch(committed_at=8.0, observations=[observation(500)]))
    below = [f"log{at}" for at in range(301, 500)]
    statements: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(statements.append)
        assert {} == queries.stored_statuses(connection, 1, below)
        assert len(statements) == 1
        assert {"log500": {"success"}} == queries.stored_statuses(connection, 1, [*below, "log500"])


def test_lookup_matches_logs_that_are_not_rekeyed(store: Store, path: Path) -> None:
    """After a switch of the generation logs are found by their new keys, and the state is not changed."""
    old = LogEntry(key="log3", status="pending", created=3)
    commit_batch(store, PUBLISHING, Batch(committed_at=8.0, observations=[Observation(old, ())]))
    store.begin_rekey(PUBLISHING, Coverage(retention_floor=0, complete_since=1, is_synced=True, generation="zernio"))
    stored, new = (LogEntry(key=f"000000000000{at}-{'a' * 12}=b.0", status="success", created=at) for at in (3, 4))
    with open_snapshot(f"sqlite:///{path}") as records:
        before = list(records.recorded_statuses(PUBLISHING))
        can_change = records.lookup(PUBLISHING, [stored, new], has_pending=True)
        cannot_change = records.lookup(PUBLISHING, [stored, new], has_pending=False)
        assert before == list(records.recorded_statuses(PUBLISHING))
    assert {stored.key: {"pending"}} == can_change.statuses
    assert {stored.key: {"success"}} == cannot_change.statuses
    assert {f"0000000000003-{'a' * 12}@log3"} == can_change.former_keys


def test_reads_are_of_one_transaction(store: Store, path: Path) -> None:
    """Later commits are not visible and are not blocked."""
    with open_snapshot(f"sqlite:///{path}") as records:
        before = records.series_values()
        commit_batch(store, PUBLISHING, Batch(committed_at=8.0, observations=[observation(2), observation(3)]))
        assert 2 == len(list(records.recorded_statuses(PUBLISHING)))
        assert before == records.series_values() != store.series_values()
    with open_snapshot(f"sqlite:///{path}") as records:
        assert 4 == len(list(records.recorded_statuses(PUBLISHING)))


def test_a_path_that_cannot_be_examined_is_an_error(tmp_path: Path) -> None:
    """The error names the path and the reason, as for a folder that this user may not read."""
    path = tmp_path / f"{'x' * 300}.db"
    with pytest.raises(StoreError) as caught:
        open_snapshot(f"sqlite:///{path}")
    assert f"{path}: the state cannot be read: File name too long" == str(caught.value)
    for missing in (tmp_path / "missing/state.db", Path(__file__) / "state.db"):
        with pytest.raises(StoreError, match="there is no state"):
            open_snapshot(f"sqlite:///{missing}")


def test_reading_does_not_write(path: Path) -> None:
    """A missing state is an error and is not created; an existing one cannot be changed."""
    with pytest.raises(StoreError, match="there is no state"):
        open_snapshot(f"sqlite:///{path}")
    assert not path.parent.exists()
    open_store(f"sqlite:///{path}").close()
    with open_snapshot(f"sqlite:///{path}") as records, pytest.raises(sqlite3.OperationalError, match="readonly"):
        records._connection.execute("DELETE FROM scope")  # type: ignore[attr-defined] # noqa: SLF001 - that it cannot


@pytest.mark.parametrize("url", ["sqlite://", "postgresql://localhost/late"])
def test_rejects_unusable_urls(url: str) -> None:
    """A state in memory and an unknown scheme are errors."""
    with pytest.raises((StoreError, ConfigError)):
        open_snapshot(url)


def test_rejects_foreign_files(tmp_path: Path) -> None:
    """A foreign file is named and not changed."""
    text, other, newer, negative = (tmp_path / name for name in ("text", "other.db", "newer.db", "negative.db"))
    text.write_text("not a database")
    for file, pragma in ((other, "application_id = 5"), (newer, "user_version = 99"), (negative, "user_version = -1")):
        if file != other:
            open_store(f"sqlite:///{file}").close()
        with sqlite3.connect(file) as connection:
            connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE more (a)")
        connection.close()
    for file, reason in (
        (text, "not a state"),
        (other, "another program"),
        (newer, "a newer late-exporter"),
        (negative, "not a state"),
    ):
        before = file.read_bytes()
        with pytest.raises(StoreError, match=reason):
            open_snapshot(f"sqlite:///{file}")
        assert before == file.read_bytes()
