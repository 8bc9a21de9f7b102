from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError
from late_exporter.model import Batch, Coverage, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import Store, open_store
from late_exporter.store.admin import SqliteAdmin
from late_exporter.store.maintenance import open_snapshot
from tests.support.store import commit_batch, copy_state

LOGS = "late_publishing_logs_total"
OWN = "late_exporter_polls_total"


def observations(workspace: str, first: int, count: int, status: str = "success") -> list[Observation]:
    """Return observations; some logs have no time, and one has a platform that needs quoting."""
    result = []
    for number in range(first, first + count):
        platform = 'my "space"\n🚀' if number == first else "tiktok"
        entry = LogEntry(key=f"log{number:06}", status=status, created=None if number % 7 == 3 else number * 60_000)
        result.append(Observation(entry, (IncCounter(LOGS, (workspace, platform, "publish", status)),)))
    return result


def fill(store: Store, workspace: str, first: int = 0, count: int = 100) -> None:
    """Commit logs of a workspace, some of them pending."""
    logs = [*observations(workspace, first, count), *observations(workspace, first + count, 3, "pending")]
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    own = [IncCounter(OWN, (workspace, "publishing", "success"))]
    commit_batch(
        store,
        Scope(workspace, "publishing"),
        Batch(committed_at=7.0, observations=logs, coverage=coverage, increments=own),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the state."""
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Open a state with two workspaces."""
    store = open_store(f"sqlite:///{path}")
    fill(store, "acme")
    fill(store, "beta", count=40)
    yield store
    store.close()


def content(path: Path) -> object:
    """Return everything that a state contains."""
    with open_snapshot(f"sqlite:///{path}") as records:
        return (
            records.series_values(),
            {scope: (records.feed_state(scope), list(records.recorded_statuses(scope))) for scope in records.scopes},
        )


def execute(path: Path, statement: str) -> None:
    """Change a state without the store."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_backup_of_a_state_in_use_is_consistent(store: Store, path: Path, tmp_path: Path) -> None:
    """A backup during commits is consistent, and an exporter can continue from it."""
    target, over = tmp_path / "copy.db", threading.Event()

    def write() -> None:
        first = 10_000
        while not over.is_set():
            fill(store, "acme", first, 50)
            first += 100

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(5):
            assert SqliteAdmin(path).backup(target) == target.stat().st_size
            assert [] == list(SqliteAdmin(target).check())
            target.unlink()
    finally:
        over.set()
        writing.join()
    SqliteAdmin(path).backup(target)
    assert content(path) == content(target)
    assert not target.with_name("copy.db-wal").exists()
    with closing(open_store(f"sqlite:///{target}")) as copied:
        assert store.series_values() == copied.series_values()


def test_backup_does_not_overwrite(store: Store, path: Path, tmp_path: Path) -> None:
    """An existing target is not changed, and a failed backup leaves no file."""
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match="the file exists already"):
        SqliteAdmin(path).backup(target)
    assert "precious" == target.read_text()
    with pytest.raises(StoreError, match="there is no state"):
        SqliteAdmin(tmp_path / "nothing.db").backup(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    assert store.series_values()


def test_a_symbolic_link_is_not_followed(store: Store, path: Path, tmp_path: Path) -> None:
    """Neither a backup nor a copy creates the file to which a dangling link points."""
    victim, link = tmp_path / "victim.db", tmp_path / "link.db"
    link.symlink_to(victim)
    with pytest.raises(StoreError, match="the file exists already"):
        SqliteAdmin(path).backup(link)
    with pytest.raises(StoreError, match="the file exists already"):
        copy_state(f"sqlite:///{path}", f"sqlite:///{link}")
    assert link.is_symlink()
    assert not victim.exists()
    assert store.series_values()


def test_check_finds_nothing_in_a_consistent_state(store: Store, path: Path) -> None:
    """A state is consistent while it is open, after pruning, and after a pending log became final."""
    assert [] == list(SqliteAdmin(path).check())
    settled = observations("acme", 100, 1, "failed")
    commit_batch(
        store, Scope("acme", "publishing"), Batch(committed_at=8.0, observations=settled, prune_before=50 * 60_000)
    )
    assert [] == list(SqliteAdmin(path).check())


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM observation WHERE key = 'log000001'", "logs are stored"),
        ("UPDATE scope SET logs = logs + 1", "logs are stored"),
        ("INSERT INTO pending VALUES (1, 'nobody', 1, 'a', 'b', NULL)", "pending logs are not stored as counted"),
        ("UPDATE series SET value = x'7b' WHERE family = 'late_publishing_logs_total'", "the value cannot be decoded"),
    ],
)
def test_check_reports_inconsistencies(store: Store, path: Path, statement: str, fault: str) -> None:
    """Changes that bypass the store are reported."""
    store.close()
    execute(path, statement)
    assert [line for line in SqliteAdmin(path).check() if fault in line]


def test_check_finds_flipped_bytes(store: Store, path: Path) -> None:
    """A changed byte of a key or of a page header is reported."""
    store.close()
    execute(path, "PRAGMA journal_mode = DELETE")
    sound = path.read_bytes()
    positions = {
        "order": sound.index(b"log000050success") + 8,
        "header of a page": 4096 * 3 + 4,
    }
    for name, position in positions.items():
        damaged = bytearray(sound)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        assert problems(path), name
    path.write_bytes(sound)
    assert [] == problems(path)


def test_check_reports_a_corrupt_database(store: Store, path: Path) -> None:
    """Overwritten pages are reported, or the file cannot be read."""
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 6000] = b"\xff" * 6000
    path.write_bytes(damaged)
    assert problems(path)


def problems(path: Path) -> list[str]:
    """Return the problems of a state, including that it cannot be read."""
    try:
        return list(SqliteAdmin(path).check())
    except StoreError as exc:
        return [str(exc)]
