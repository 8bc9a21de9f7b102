from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.model import Batch, Coverage, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import Store, open_store
from late_exporter.store.admin import SqliteAdmin
from late_exporter.store.exports import read_digest
from late_exporter.store.maintenance import open_snapshot
from late_exporter.store.schema import MIGRATIONS
from tests.support.store import commit_batch

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
    """Neither a backup nor an import creates the file to which a dangling link points."""
    victim, link = tmp_path / "victim.db", tmp_path / "link.db"
    link.symlink_to(victim)
    with pytest.raises(StoreError, match="the file exists already"):
        SqliteAdmin(path).backup(link)
    with pytest.raises(StoreError, match="the file exists already"):
        SqliteAdmin(link).import_state(SqliteAdmin(path).export_state())
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
        ("DELETE FROM logs_per_minute WHERE minute = 5", "the log counts of 1 minutes do not agree"),
        ("INSERT INTO pending VALUES (1, 'nobody', 1, 'a', 'b', NULL)", "pending logs are not stored as counted"),
        ("UPDATE series SET value = x'7b' WHERE family = 'late_publishing_logs_total'", "the value cannot be decoded"),
        ("DELETE FROM scope WHERE workspace = 'beta'", "rows belong to no workspace"),
    ],
)
def test_check_reports_inconsistencies(store: Store, path: Path, statement: str, fault: str) -> None:
    """Changes that bypass the store are reported."""
    store.close()
    execute(path, statement)
    assert [line for line in SqliteAdmin(path).check() if fault in line]


def test_check_finds_flipped_bytes(store: Store, path: Path) -> None:
    """A changed byte of a time, of a key or of a page header is reported, as SQLite or a second count can tell."""
    store.close()
    execute(path, "PRAGMA journal_mode = DELETE")
    sound = path.read_bytes()
    positions = {
        "time": sound.index(b"log000008success") + len(b"log000008success"),
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


def test_import_restores_an_export(store: Store, path: Path, tmp_path: Path) -> None:
    """The imported state has the same content, and the lines are JSON."""
    lines = list(SqliteAdmin(path).export_state())
    assert {"format": "late-exporter state", "schema": len(MIGRATIONS)} == json.loads(lines[0])
    other = tmp_path / "elsewhere" / "other.db"
    assert len(lines) - 2 == SqliteAdmin(other).import_state(lines).row_count
    assert content(path) == content(other)
    assert [] == list(SqliteAdmin(other).check())
    with closing(open_store(f"sqlite:///{other}")) as copied_store:
        fill(copied_store, "acme")
        assert (
            store.series_values()[LOGS, ("acme", "tiktok", "publish", "success")]
            == (copied_store.series_values()[LOGS, ("acme", "tiktok", "publish", "success")])
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
        (
            '{head}\n{"table": "logs_per_minute", "scope": "1", "minute": 1, "logs": 1, "deleted": 0}\n{end}',
            "line 2: not",
        ),
        (
            '{head}\n{"table": "series", "family": "", "labels": "acme", "value": "", "created": 1, "served": 1}',
            "line 2: not",
        ),
        ("{head}\n{row}\n{row}\n{end}", "UNIQUE"),
        ('{head}\n{"table": ["scope"]}\n{end}', "line 2: not a row"),
        ("{head}\n" + "[" * 100_000, "line 2: not a JSON object"),
    ],
)
def test_import_rejects_invalid_exports(store: Store, path: Path, text: str, reason: str) -> None:
    """The error names the line, and no partial state is left."""
    lines = list(SqliteAdmin(path).export_state())
    for name, line in (("{head}", lines[0]), ("{row}", lines[1]), ("{end}", lines[-1])):
        text = text.replace(name, line)
    other = path.with_name("other.db")
    with pytest.raises(StoreError, match=reason):
        SqliteAdmin(other).import_state(text.splitlines())
    assert not other.exists()
    with closing(open_store(f"sqlite:///{other}")) as other_store:
        fill(other_store, "gamma")
    before = content(other)
    with pytest.raises(StoreError, match=reason):
        SqliteAdmin(other).import_state(text.splitlines())
    assert before == content(other)
    assert store.series_values()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("scope", "workspace", None),
        ("scope", "id", 2**63 - 1),
        ("scope", "coverage", True),
        ("scope", "commits", float("inf")),
        ("observation", "created", -(2**63) - 1),
        ("observation", "created", [1]),
        ("observation", "key", 1),
        ("observation", "key", "\ud800"),
        ("observation", "created", "abc"),
        ("series", "labels", '["\\ud800"]'),
        ("series", "labels", "[" * 100_000),
    ],
)
def test_import_rejects_values_that_cannot_be_stored(
    store: Store, path: Path, table: str, column: str, value: object
) -> None:
    """The error names the line, and a state with other workspaces is unchanged."""
    other = path.with_name("other.db")
    with closing(open_store(f"sqlite:///{other}")) as other_store:
        fill(other_store, "gamma")
    before = content(other)
    rows = [json.loads(line) for line in SqliteAdmin(path).export_state()]
    number, row = next((number, row) for number, row in enumerate(rows, 1) if row.get("table") == table)
    row[column] = value
    with pytest.raises(StoreError, match=f"^line {number}: not a row of a state$"):
        SqliteAdmin(other).import_state(map(json.dumps, rows))
    assert before == content(other)
    assert store.series_values()


def test_a_workspace_moves_to_another_state(store: Store, path: Path, tmp_path: Path) -> None:
    """A workspace that is imported beside others keeps everything, and what happens later is counted there."""
    other = tmp_path / "other.db"
    with closing(open_store(f"sqlite:///{other}")) as other_store:
        fill(other_store, "gamma")
        fill(other_store, "gamma", first=50)
        values = dict(other_store.series_values())
    digest = SqliteAdmin(other).import_state(SqliteAdmin(path).export_state({"beta"}))
    assert {"beta"} == digest.workspaces
    assert (
        digest
        == read_digest(SqliteAdmin(path).export_state({"beta"}))
        == read_digest(SqliteAdmin(other).export_state({"beta"}))
    )
    assert digest != read_digest(SqliteAdmin(path).export_state({"acme"}))
    assert [] == list(SqliteAdmin(other).check())
    values |= {series: value for series, value in store.series_values().items() if series[1][0] == "beta"}
    scope = Scope("beta", "publishing")
    with closing(open_store(f"sqlite:///{other}")) as other_store:
        assert values == other_store.series_values()
        assert store.feed_state(scope) == other_store.feed_state(scope)
        for state in (store, other_store):
            fill(state, "beta", first=30)
        assert store.feed_state(scope) == other_store.feed_state(scope)
    with pytest.raises(StoreError, match="there is a workspace beta already, and nothing was imported"):
        SqliteAdmin(other).import_state(SqliteAdmin(path).export_state())
    with open_snapshot(f"sqlite:///{other}") as records:
        assert ["beta", "gamma"] == [scope.workspace for scope in records.scopes]


def test_an_export_of_an_earlier_version_needs_a_state_of_its_own(path: Path, store: Store) -> None:
    """Rows of an earlier schema cannot be added to those of this one."""
    store.close()
    lines = ['{"format": "late-exporter state", "schema": 6}', '{"end": true}']
    with pytest.raises(StoreError, match=r"line 1: an export of an earlier version \(schema 6\); import it"):
        SqliteAdmin(path).import_state(lines)
    assert 0 == SqliteAdmin(path.with_name("new.db")).import_state(lines).row_count


def test_rename_moves_all_counters(store: Store, path: Path) -> None:
    """All counters continue under the new name, and other workspaces are unchanged."""
    before = dict(store.series_values())
    store.close()
    series = SqliteAdmin(path).rename_workspace("acme", "Große Firma")
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
    assert [] == list(SqliteAdmin(path).check())


def test_a_damaged_label_is_an_error(store: Store, path: Path) -> None:
    """A series whose labels cannot be decoded is an error that names the state and the remedy."""
    store.close()
    execute(path, "UPDATE OR REPLACE series SET labels = 'acme'")
    expected = f"^{path}: JSON is malformed.*; restore a backup"
    with pytest.raises(StoreError, match=expected):
        SqliteAdmin(path).rename_workspace("acme", "agency")
    with pytest.raises(StoreError, match=expected):
        SqliteAdmin(path).drop_workspace("acme")


def test_drop_deletes_only_the_workspace(store: Store, path: Path) -> None:
    """Nothing of the workspace is left, and other workspaces are unchanged."""
    before = {series: total for series, total in store.series_values().items() if series[1][0] == "beta"}
    store.close()
    assert 103 == SqliteAdmin(path).drop_workspace("acme")
    with open_snapshot(f"sqlite:///{path}") as records:
        assert before == records.series_values()
        assert [Scope("beta", "publishing")] == records.scopes
    assert [] == list(SqliteAdmin(path).check())


def test_full_disk_is_named(store: Store, path: Path) -> None:
    """The error names the full disk, also if SQLite itself has rolled back the change."""
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE DELETE ON scope BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END"
        )
    before = content(path)
    with pytest.raises(StoreError, match=r"state\.db: disk is full$"):
        SqliteAdmin(path).drop_workspace("acme")
    assert before == content(path)


def test_compact_returns_free_space(store: Store, path: Path) -> None:
    """The space of pruned logs is returned to the file system."""
    for turn in range(10):
        fill(store, "acme", 1000 * (turn + 1), 900)
    store.close()
    SqliteAdmin(path).drop_workspace("acme")
    before, after = SqliteAdmin(path).compact()
    assert before > after == path.stat().st_size
    assert [] == list(SqliteAdmin(path).check())


def test_changes_require_exclusive_access(store: Store, path: Path) -> None:
    """A state that an exporter has open cannot be changed."""
    before = content(path)
    for change in (
        lambda: SqliteAdmin(path).rename_workspace("acme", "other"),
        lambda: SqliteAdmin(path).drop_workspace("acme"),
        lambda: SqliteAdmin(path).compact(),
        lambda: SqliteAdmin(path).import_state([]),
    ):
        with pytest.raises(StoreInUse):
            change()
    assert before == content(path)
    store.close()


def test_rejected_changes_leave_the_state(store: Store, path: Path) -> None:
    """An unknown workspace is reported with the known ones, and a name in use is rejected."""
    store.close()
    before = content(path)
    with pytest.raises(StoreError, match="there is no workspace acne in the state; there are acme, beta"):
        SqliteAdmin(path).drop_workspace("acne")
    with pytest.raises(StoreError, match="there is no workspace acne"):
        SqliteAdmin(path).rename_workspace("acne", "other")
    with pytest.raises(StoreError, match="there is a workspace beta already"):
        SqliteAdmin(path).rename_workspace("acme", "beta")
    assert before == content(path)
