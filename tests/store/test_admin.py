from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.model import Batch, Coverage, IncCounter, LogEntry, Observation, Scope
from late_exporter.store import Store, open_snapshot, open_store
from late_exporter.store.admin import (
    backup,
    check,
    compact,
    drop_workspace,
    export_state,
    import_state,
    rename_workspace,
)

LOGS = "late_publishing_logs_total"
OWN = "late_exporter_polls_total"


def sightings(workspace: str, first: int, count: int, status: str = "success") -> list[Observation]:
    """Some logs in a status; some have no time, and one a platform that needs quoting."""
    found = []
    for number in range(first, first + count):
        platform = 'my "space"\n🚀' if number == first else "tiktok"
        entry = LogEntry(key=f"log{number:06}", status=status, created=None if number % 7 == 3 else number * 60_000)
        found.append(Observation(entry, (IncCounter(LOGS, (workspace, platform, "publish", status)),)))
    return found


def fill(store: Store, workspace: str, first: int = 0, count: int = 100) -> None:
    """Count some logs of a workspace, of which a few are pending."""
    logs = [*sightings(workspace, first, count), *sightings(workspace, first + count, 3, "pending")]
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    own = [IncCounter(OWN, (workspace, "publishing", "success"))]
    store.commit(
        Scope(workspace, "publishing"), Batch(committed_at=7.0, observations=logs, coverage=coverage, increments=own)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A state with two workspaces, open for writing."""
    store = open_store(f"sqlite:///{path}")
    fill(store, "acme")
    fill(store, "beta", count=40)
    yield store
    store.close()


def content(path: Path) -> object:
    """All that a state holds."""
    with open_snapshot(f"sqlite:///{path}") as records:
        return (
            records.series_values(),
            {scope: (records.feed_state(scope), list(records.recorded_statuses(scope))) for scope in records.scopes},
        )


def execute(path: Path, statement: str) -> None:
    """Change a state as nobody should."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_a_backup_of_a_state_in_use(store: Store, path: Path, tmp_path: Path) -> None:
    """A copy is whole and good while commits go on, and an exporter can go on from it."""
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
            assert backup(path, target) == target.stat().st_size
            assert [] == list(check(target))
            target.unlink()
    finally:
        over.set()
        writing.join()
    backup(path, target)
    assert content(path) == content(target)
    assert not target.with_name("copy.db-wal").exists()
    with closing(open_store(f"sqlite:///{target}")) as copied:
        assert store.series_values() == copied.series_values()


def test_a_backup_replaces_nothing(store: Store, path: Path, tmp_path: Path) -> None:
    """A file that is there stays as it is, and what cannot be read leaves no copy."""
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match="the file exists already"):
        backup(path, target)
    assert "precious" == target.read_text()
    with pytest.raises(StoreError, match="there is no state"):
        backup(tmp_path / "nothing.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    assert store.series_values()


def test_a_good_state_has_no_faults(store: Store, path: Path) -> None:
    """A state is good while it is in use, after logs were forgotten, and after a log has settled."""
    assert [] == list(check(path))
    settled = sightings("acme", 100, 1, "failed")
    store.commit(Scope("acme", "publishing"), Batch(committed_at=8.0, observations=settled, prune_before=50 * 60_000))
    assert [] == list(check(path))


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM sighting WHERE key = 'log000001'", "logs are stored"),
        ("UPDATE scope SET logs = logs + 1", "logs are stored"),
        ("DELETE FROM tally WHERE minute = 5", "the log counts per minute add up to"),
        ("INSERT INTO pending VALUES (1, 'nobody', 1, 'a', 'b', NULL)", "pending logs are not stored as counted"),
        ("UPDATE series SET value = x'7b' WHERE family = 'late_publishing_logs_total'", "the value cannot be decoded"),
        ("DELETE FROM scope WHERE workspace = 'beta'", "rows belong to no workspace"),
    ],
)
def test_faults_are_found(store: Store, path: Path, statement: str, fault: str) -> None:
    """Whatever was changed behind the exporter's back is told."""
    store.close()
    execute(path, statement)
    assert [line for line in check(path) if fault in line]


def test_a_damaged_database_is_told(store: Store, path: Path) -> None:
    """Bytes that were overwritten in the middle of the file are found, or the file cannot be read at all."""
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 6000] = b"\xff" * 6000
    path.write_bytes(damaged)
    assert faults(path)


def faults(path: Path) -> list[str]:
    """What is wrong with a state, also where it cannot be read at all."""
    try:
        return list(check(path))
    except StoreError as exc:
        return [str(exc)]


def test_what_is_written_out_can_be_read_in(store: Store, path: Path, tmp_path: Path) -> None:
    """The copy holds the same to the last byte, and the lines are JSON without secrets of SQLite."""
    lines = list(export_state(path))
    assert {"format": "late-exporter state", "schema": 3} == json.loads(lines[0])
    other = tmp_path / "elsewhere" / "other.db"
    assert len(lines) - 2 == import_state(other, lines)
    assert content(path) == content(other)
    assert [] == list(check(other))
    with closing(open_store(f"sqlite:///{other}")) as moved:
        fill(moved, "acme")
        assert (
            store.series_values()[LOGS, ("acme", "tiktok", "publish", "success")]
            == (moved.series_values()[LOGS, ("acme", "tiktok", "publish", "success")])
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ("not json", "line 1: not a JSON object"),
        ('{"format": "other"}', "line 1: not an export"),
        ('{"format": "late-exporter state", "schema": 99}', "line 1: not an export"),
        ("{head}\n{row}", "truncated after 1 rows"),
        ('{head}\n{"table": "sqlite_schema"}\n{end}', "line 2: not a row"),
        ('{head}\n{"table": "scope", "id": 1}\n{end}', "line 2: not a row"),
        ("{head}\n{row}\n{row}\n{end}", "UNIQUE"),
    ],
)
def test_what_is_not_a_state_is_not_read_in(store: Store, path: Path, text: str, reason: str) -> None:
    """The line that is wrong is named, and no half of a state is left."""
    lines = list(export_state(path))
    for name, line in (("{head}", lines[0]), ("{row}", lines[1]), ("{end}", lines[-1])):
        text = text.replace(name, line)
    other = path.with_name("other.db")
    with pytest.raises(StoreError, match=reason):
        import_state(other, text.splitlines())
    assert not other.exists()
    with pytest.raises(StoreError, match="the file exists already"):
        import_state(path, lines)
    assert store.series_values()


def test_a_workspace_gets_another_name(store: Store, path: Path) -> None:
    """All that was counted goes on under the new name, and the other workspace is as it was."""
    before = dict(store.series_values())
    store.close()
    series = rename_workspace(path, "acme", "Große Firma")
    with closing(open_store(f"sqlite:///{path}")) as renamed:
        after = renamed.series_values()
        assert before == {
            (family, ("acme" if labels[0] == "Große Firma" else labels[0], *labels[1:])): total
            for (family, labels), total in after.items()
        }
        assert series == sum(labels[0] == "Große Firma" for _, labels in after)
        assert 103 == renamed.feed_state(Scope("Große Firma", "publishing")).log_count
        fill(renamed, "Große Firma")
        assert 103 == renamed.feed_state(Scope("Große Firma", "publishing")).log_count
    assert [] == list(check(path))


def test_a_workspace_is_dropped(store: Store, path: Path) -> None:
    """Nothing of it is left, and the other workspace is as it was."""
    before = {series: total for series, total in store.series_values().items() if series[1][0] == "beta"}
    store.close()
    assert 103 == drop_workspace(path, "acme")
    with open_snapshot(f"sqlite:///{path}") as records:
        assert before == records.series_values()
        assert [Scope("beta", "publishing")] == records.scopes
    assert [] == list(check(path))


def test_a_state_gets_smaller(store: Store, path: Path) -> None:
    """What was forgotten takes no space any more."""
    for turn in range(10):
        fill(store, "acme", 1000 * (turn + 1), 900)
    store.close()
    drop_workspace(path, "acme")
    before, after = compact(path)
    assert before > after == path.stat().st_size
    assert [] == list(check(path))


def test_changes_need_the_state_for_themselves(store: Store, path: Path) -> None:
    """While an exporter works on the state, nothing of it is changed."""
    before = content(path)
    for change in (
        lambda: rename_workspace(path, "acme", "other"),
        lambda: drop_workspace(path, "acme"),
        lambda: compact(path),
    ):
        with pytest.raises(StoreInUse):
            change()
    assert before == content(path)
    store.close()


def test_mistakes_change_nothing(store: Store, path: Path) -> None:
    """A workspace that is not there is named with those that are; a name that is taken is refused."""
    store.close()
    before = content(path)
    with pytest.raises(StoreError, match="there is no workspace acne in the state; there are acme, beta"):
        drop_workspace(path, "acne")
    with pytest.raises(StoreError, match="there is no workspace acne"):
        rename_workspace(path, "acne", "other")
    with pytest.raises(StoreError, match="there is a workspace beta already"):
        rename_workspace(path, "acme", "beta")
    assert before == content(path)
