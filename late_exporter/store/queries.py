"""Queries shared by the store and the read-only snapshot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection
from urllib.parse import quote

import msgspec

from late_exporter.errors import StoreError
from late_exporter.model import Coverage, FeedAccounting, FeedState, PendingLog
from late_exporter.store import series_rows
from late_exporter.store.batches import with_status
from late_exporter.store.copying import TABLES, Row

LOOKUP_KEYS = 100

# The number of placeholders is fixed, because SQLite caches each different statement, at tens of kilobytes apiece.
LOOKUP = f"SELECT key, status FROM observation WHERE scope = ? AND key IN ({','.join('?' * LOOKUP_KEYS)})"  # noqa: S608 - placeholders

WORKSPACE_NAMES = "SELECT workspace FROM scope UNION SELECT json_extract(labels, '$[0]') FROM series ORDER BY 1"

WORKSPACE_CONDITIONS = {
    "scope": "workspace IN (SELECT value FROM json_each(?1))",
    "series": "json_extract(labels, '$[0]') IN (SELECT value FROM json_each(?1))",
}
"""Conditions for the rows of some workspaces, given as a JSON array; those of all other tables have a scope."""

SCOPE_CONDITION = "scope IN (SELECT id FROM scope WHERE workspace IN (SELECT value FROM json_each(?1)))"

ANY_BETWEEN = "SELECT 1 FROM observation WHERE scope = ? AND key BETWEEN ? AND ? LIMIT 1"

FEED_ROW = tuple[bytes | None, int, bytes | None, int]
"""Types of coverage, number of logs, progress and the mark of a restored state, as they are stored."""

DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# These share their code with errors that are no damage, such as a feature that an old version of SQLite lacks.
DAMAGE_MESSAGES = ("no such table", "no such column", "malformed JSON", "Could not decode to UTF-8")


@contextmanager
def store_errors(name: object) -> Iterator[None]:
    """Raise the errors of reading and writing a state as StoreError, with the remedy if the state is damaged."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.MsgspecError) as exc:
        remedy = "; restore a backup, or remove the file to begin a new state" if _is_damage(exc) else ""
        raise StoreError(f"{name}: {exc}{remedy}") from exc


def _is_damage(exc: Exception) -> bool:
    if isinstance(exc, sqlite3.Error):
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # An extended code has the primary one in its lowest byte.
        return code in DAMAGE_CODES or str(exc).startswith(DAMAGE_MESSAGES)
    return not isinstance(exc, OSError)


def connect_readonly(path: Path) -> Connection:
    uri = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back if the disk is full.
            connection.execute("ROLLBACK")
        raise


def workspace_names(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute(WORKSPACE_NAMES)]


def state_rows(connection: Connection, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table, or those of some workspaces, in its order."""
    columns, order = TABLES[table]
    query, parameters = f"SELECT {', '.join(columns)} FROM {table}", list[str]()  # noqa: S608 - constants
    if workspaces is not None:
        query += f" WHERE {WORKSPACE_CONDITIONS.get(table, SCOPE_CONDITION)}"
        parameters.append(json.dumps([*workspaces]))
    cursor = connection.execute(f"{query} ORDER BY {order}", parameters)
    yield from map(tuple, cursor)  # It would close the cursor itself, perhaps after the connection.


def require_writable(path: Path) -> None:
    """Begin to write to each table of a state; raise StoreError if this user cannot, or if a table is missing."""
    uri = f"file:{quote(str(path))}?mode=rw"
    with store_errors(path), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE false")  # noqa: S608 - a constant
        connection.execute("ROLLBACK")


def feed_state(connection: Connection, scope_id: int) -> FeedState:
    row = connection.execute(
        "SELECT coverage, logs, progress, restored FROM scope WHERE id = ?", (scope_id,)
    ).fetchone()
    # A damaged page may have any type in any column.
    coverage, log_count, progress, is_restored = msgspec.convert(row, FEED_ROW, builtin_types=(bytes,))
    return FeedState(
        coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
        pending_logs=pending_logs(connection, scope_id),
        log_count=log_count,
        progress=progress or b"",
        is_restored=bool(is_restored),
    )


def last_commit(connection: Connection) -> int:
    """Return the number of the last commit; 0 if there was none."""
    (number,) = connection.execute("SELECT coalesce(max(commits), 0) FROM scope").fetchone()
    return int(number)


def pending_logs(connection: Connection, scope_id: int) -> dict[str, PendingLog]:
    """Return the pending logs of a feed by key, oldest first."""
    rows = connection.execute(
        "SELECT key, created, platform, action, post_id FROM pending WHERE scope = ? ORDER BY created, key", (scope_id,)
    )
    return {row[0]: PendingLog(*row) for row in rows}


def stored_statuses(connection: Connection, scope_id: int, keys: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the counted statuses of logs by key; keys that are not stored are missing."""
    statuses: dict[str, frozenset[str]] = {}
    if len(keys) > LOOKUP_KEYS and not connection.execute(ANY_BETWEEN, (scope_id, min(keys), max(keys))).fetchone():
        return statuses  # as for most batches of a catch-up
    for start in range(0, len(keys), LOOKUP_KEYS):
        chunk = keys[start : start + LOOKUP_KEYS]
        rows = connection.execute(LOOKUP, (scope_id, *chunk, *[None] * (LOOKUP_KEYS - len(chunk))))
        for key, status in rows:
            statuses[key] = with_status(statuses.get(key), status)
    return statuses


def accounting(connection: Connection, scope_id: int, workspace: str) -> FeedAccounting:
    total, pruned = connection.execute("SELECT observations, pruned FROM scope WHERE id = ?", (scope_id,)).fetchone()
    (stored,) = connection.execute("SELECT count(*) FROM observation WHERE scope = ?", (scope_id,)).fetchone()
    return FeedAccounting(
        observation_count=total,
        stored_count=stored,
        pruned_count=pruned,
        series_values=series_rows.load_workspace(connection, workspace),
    )
