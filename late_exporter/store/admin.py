"""What an administrator does with a state: copy, check, write out, read in, forget, rename and drop.

Copying and checking leave an exporter alone that works on the state; what changes it needs it for itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.aggregation import decode_value
from late_exporter.store.lockfile import create, lock, require_database
from late_exporter.store.schema import APPLICATION_ID, MIGRATIONS
from late_exporter.store.snapshot import StateSnapshot

__all__ = ["backup", "check", "compact", "drop_workspace", "export_state", "import_state", "rename_workspace"]

FORMAT = "late-exporter state"
SCOPE_TABLES = ("sighting", "tally", "pending")
"""The tables whose rows belong to a feed of a workspace."""


def backup(path: Path, target: Path) -> int:
    """Copy the state, by SQLite's own online backup, to a file that is not there yet; returns its size in bytes.

    Raises:
        StoreError: There is such a file, or the state cannot be read or the copy not be written.
    """
    StateSnapshot(path).close()  # whether it is a state at all
    _require_absent(target)
    with _store_errors(target), closing(_connect_readonly(path)) as source:
        try:
            create(target)
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return target.stat().st_size


def check(path: Path) -> Iterator[str]:
    """What is wrong with the state: nothing, or a line each.

    Raises:
        StoreError: It cannot be read at all.
    """
    StateSnapshot(path).close()
    with _store_errors(path), closing(_connect_readonly(path)) as connection:
        connection.execute("BEGIN")
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        yield from (f"database: {line}" for line in found if line != "ok")
        yield from _inconsistencies(connection)
        yield from _unreadable(connection)


def _inconsistencies(connection: sqlite3.Connection) -> Iterator[str]:
    """What the tables say of each other that is not so."""
    scopes = connection.execute("SELECT id, workspace, feed, logs FROM scope ORDER BY id").fetchall()
    for number, workspace, feed, logs in scopes:
        place = f"{workspace}/{feed}"
        (held,) = connection.execute("SELECT count(DISTINCT key) FROM sighting WHERE scope = ?", (number,)).fetchone()
        if held != logs:
            yield f"{place}: {logs:,} logs are noted, {held:,} are held"
        (tallied, dated) = connection.execute(
            "SELECT (SELECT coalesce(sum(logs), 0) FROM tally WHERE scope = ?1),"
            " (SELECT count(DISTINCT key) FROM sighting WHERE scope = ?1 AND created IS NOT NULL)",
            (number,),
        ).fetchone()
        if tallied != dated:
            yield f"{place}: {tallied:,} logs are tallied by minute, {dated:,} have a time"
        (lost,) = connection.execute(
            "SELECT count(*) FROM pending WHERE scope = ?1 AND NOT EXISTS (SELECT 1 FROM sighting"
            " WHERE sighting.scope = ?1 AND sighting.key = pending.key)",
            (number,),
        ).fetchone()
        if lost:
            yield f"{place}: {lost:,} logs are pending that were never counted"
    known = {number for number, *_ in scopes}
    for table in SCOPE_TABLES:
        strays = {number for (number,) in connection.execute(f"SELECT DISTINCT scope FROM {table}")} - known  # noqa: S608 - a constant
        if strays:
            yield f"{table}: rows belong to no workspace"


def _unreadable(connection: sqlite3.Connection) -> Iterator[str]:
    """Totals that cannot be understood."""
    for family, labels, value in connection.execute("SELECT family, labels, value FROM series"):
        try:
            msgspec.json.decode(labels, type=tuple[str, ...])
            decode_value(value)
        except msgspec.MsgspecError as exc:
            yield f"{family} {labels}: the total cannot be read: {exc}"


def export_state(path: Path) -> Iterator[str]:
    """The whole state as JSON, a line a row, as of one moment.

    Raises:
        StoreError: It cannot be read.
    """
    StateSnapshot(path).close()
    with _store_errors(path), closing(_connect_readonly(path)) as connection:
        connection.execute("BEGIN")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        yield json.dumps({"format": FORMAT, "schema": version})
        for table in _tables(connection):
            cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of the schema
            names = [column[0] for column in cursor.description]
            for row in cursor:
                values = [value.decode() if isinstance(value, bytes) else value for value in row]
                yield json.dumps({"table": table, **dict(zip(names, values, strict=True))}, ensure_ascii=False)
        yield json.dumps({"end": True})


def import_state(path: Path, lines: Iterable[str]) -> int:
    """Make a state of what ``write_out`` has written, of whichever version; returns how many rows it has.

    Raises:
        StoreError: There is a state already, or the lines are not a whole one; then there is none.
    """
    _require_absent(path)
    holder = lock(path)
    try:
        create(path)
        with _store_errors(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            rows = _fill(connection, iter(lines))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        holder.close()
    return rows


def _fill(connection: sqlite3.Connection, lines: Iterator[str]) -> int:
    head = _row(next(lines, ""), 1)
    version = head.get("schema")
    if head.get("format") != FORMAT or not isinstance(version, int) or not 1 <= version <= len(MIGRATIONS):
        raise StoreError(f"line 1: this is not a state that a late-exporter up to this version has written: {head}")
    connection.execute("BEGIN")
    for step in MIGRATIONS[:version]:
        for statement in step.split(";"):
            connection.execute(statement)
    columns = {table: _columns(connection, table) for table in _tables(connection)}
    rows, ended = 0, False
    for number, line in enumerate(lines, 2):
        row = _row(line, number)
        if ended or row.get("end") is True:
            ended = True
            continue
        _insert(connection, columns, row, number)
        rows += 1
    if not ended:
        raise StoreError(f"the state is cut off after {rows:,} rows")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
    return rows


def _row(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise StoreError(f"line {number}: this is not a JSON object")
    return row


def _insert(
    connection: sqlite3.Connection, columns: dict[str, dict[str, str]], row: dict[str, Any], number: int
) -> None:
    table = row.pop("table", None)
    if table not in columns or row.keys() != columns[table].keys():
        raise StoreError(f"line {number}: this is not a row of a state")
    values = [
        value.encode() if isinstance(value, str) and columns[table][name] == "BLOB" else value
        for name, value in row.items()
    ]
    names, marks = ", ".join(row), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 - names of the schema


def _tables(connection: sqlite3.Connection) -> Sequence[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found]


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Type by name."""
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def rename_workspace(path: Path, old: str, new: str) -> int:
    """Give a workspace another name; returns how many series it has.

    Raises:
        StoreError: There is no such workspace, there is one of the new name, or an exporter works on the state.
    """
    with _exclusive_transaction(path) as connection:
        _require_workspace(connection, old)
        if _scopes(connection, new):
            raise StoreError(f"{path}: there is a workspace {new} already")
        connection.execute("UPDATE scope SET workspace = ? WHERE workspace = ?", (new, old))
        renamed = [
            (msgspec.json.encode((new, *labels[1:])).decode(), family, written)
            for family, written, labels in _series(connection, old)
        ]
        connection.executemany("UPDATE series SET labels = ? WHERE family = ? AND labels = ?", renamed)
    return len(renamed)


def drop_workspace(path: Path, name: str) -> int:
    """Forget a workspace and all that was counted for it; returns how many logs it had.

    Raises:
        StoreError: There is no such workspace, or an exporter works on the state.
    """
    with _exclusive_transaction(path) as connection:
        _require_workspace(connection, name)
        scopes = _scopes(connection, name)
        logs = sum(logs for _, logs in scopes)
        for number, _ in scopes:
            for table in SCOPE_TABLES:
                connection.execute(f"DELETE FROM {table} WHERE scope = ?", (number,))  # noqa: S608 - a constant
        connection.execute("DELETE FROM scope WHERE workspace = ?", (name,))
        gone = [(family, written) for family, written, _ in _series(connection, name)]
        connection.executemany("DELETE FROM series WHERE family = ? AND labels = ?", gone)
    return logs


def compact(path: Path) -> tuple[int, int]:
    """Give the space of what was forgotten back to the file system; returns the size before and after, in bytes.

    Raises:
        StoreError: An exporter works on the state, or it cannot be written.
    """
    before = path.stat().st_size if path.exists() else 0
    with _exclusive_connection(path) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, path.stat().st_size


def _series(connection: sqlite3.Connection, workspace: str) -> list[tuple[str, str, list[str]]]:
    """The series of a workspace: family, labels as they are written, and labels."""
    rows = [
        (family, written, json.loads(written))
        for family, written in connection.execute("SELECT family, labels FROM series")
    ]
    return [row for row in rows if row[2][:1] == [workspace]]


def _scopes(connection: sqlite3.Connection, workspace: str) -> list[tuple[int, int]]:
    return connection.execute("SELECT id, logs FROM scope WHERE workspace = ?", (workspace,)).fetchall()


def _require_workspace(connection: sqlite3.Connection, name: str) -> None:
    if not _scopes(connection, name):
        known = sorted({row[0] for row in connection.execute("SELECT workspace FROM scope")})
        raise StoreError(f"there is no workspace {name} in the state; there are {', '.join(known) or 'none'}")


@contextmanager
def _exclusive_transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on a state that nobody else works on."""
    with _exclusive_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextmanager
def _exclusive_connection(path: Path) -> Iterator[sqlite3.Connection]:
    StateSnapshot(path).close()
    holder = lock(path)
    try:
        require_database(path)
        with _store_errors(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    finally:
        holder.close()


def _connect_readonly(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def _require_absent(path: Path) -> None:
    if path.exists():
        raise StoreError(f"{path}: there is such a file already; it is left as it is")


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path}: {exc}") from exc
