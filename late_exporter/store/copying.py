"""Copy workspaces from one state to another, as streams of rows, in one transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.store import database_at
from late_exporter.store.database import Queries, Transaction
from late_exporter.store.migrations import open_state, require_current
from late_exporter.store.rows import decode_labels, encode_labels, series_id

ROWS_PER_CHUNK = 5_000

NAMES = "SELECT name FROM late_workspace ORDER BY name"
SERIES_COLUMNS = ("workspace", "id", "family", "labels", "value", "created")
SERIES = (
    "SELECT family, labels, value, created FROM late_series"
    " WHERE workspace = (SELECT id FROM late_workspace WHERE name = ?) ORDER BY id"
)
FEED_COLUMNS = (
    "name", "revision", "coverage", "progress", "failures", "logs", "observations", "pruned"
)  # fmt: skip
FEEDS = (
    f"SELECT id, {', '.join(FEED_COLUMNS)} FROM late_feed"  # noqa: S608 - constants
    " WHERE workspace = (SELECT id FROM late_workspace WHERE name = ?) ORDER BY id"
)
FEED_TABLES = {
    "late_log": ("key", "status", "created"),
    "late_pending": ("key", "created", "platform", "action", "post_id"),
}
"""Columns of the tables that belong to a feed."""


def copy_state(
    source_url: str,
    target_url: str,
    password_file: Path | None = None,
    *,
    workspace: str | None = None,
    new_name: str | None = None,
) -> int:
    """Copy all workspaces, or one; return the number of rows.

    Args:
        source_url: State to read.
        target_url: State that must have none of the workspaces; it is created if it does not exist.
        password_file: File with the password of the databases.
        workspace: Name of the only workspace to copy.
        new_name: Name that it gets in the target.

    Raises:
        StoreInUse: An exporter has one of the states open.
        StoreError: A workspace is missing in the source or exists in the target; nothing was
            copied.
    """
    source = database_at(source_url, password_file)
    target = database_at(target_url, password_file)
    for database in (source, target):
        if database.is_in_use():
            raise StoreInUse(f"{database.name}: in use by an exporter; stop it first")
    with source.snapshot() as rows:
        require_current(source, rows)
        names = _names_to_copy(rows, source.name, workspace)
    # An open snapshot would keep the target from switching to WAL if both are the same backup file.
    open_state(target)
    try:
        # In PostgreSQL, each answer has its own deadline.
        with source.snapshot() as rows, target.transaction(seconds=math.inf) as transaction:
            taken = {name for (name,) in transaction.execute(NAMES)}
            count = 0
            for name in names:
                new = new_name or name
                if new in taken:
                    raise StoreError(
                        f"{target.name}: there is a workspace {new} already, and nothing was"
                        " copied; copy one with --workspace and --as, or into another state"
                    )
                count += _copy_workspace(rows, transaction, name, new)
            return count
    finally:
        target.close()


def _names_to_copy(source: Queries, state: str, workspace: str | None) -> Sequence[str]:
    names = [name for (name,) in source.execute(NAMES)]
    if workspace is None:
        return names
    if workspace not in names:
        raise StoreError(
            f"{state}: there is no workspace {workspace}; there are {', '.join(names) or 'none'}"
        )
    return [workspace]


def _copy_workspace(source: Queries, target: Transaction, name: str, new_name: str) -> int:
    """Copy a workspace under a new name; return the number of rows."""
    cursor = target.execute(
        "INSERT INTO late_workspace (name) VALUES (?) RETURNING id", (new_name,)
    )
    (workspace_id,) = cursor.fetchone()
    count = 1

    insert_series = _insert("late_series", SERIES_COLUMNS)
    series_rows = source.execute(SERIES, (name,))
    count += _write(
        target, insert_series, (_series(workspace_id, new_name, row) for row in series_rows)
    )

    insert_feed = f"{_insert('late_feed', ('workspace', *FEED_COLUMNS))} RETURNING id"
    for feed_id, *values in source.execute(FEEDS, (name,)).fetchall():
        (new_id,) = target.execute(insert_feed, (workspace_id, *values)).fetchone()
        count += 1
        for table, columns in FEED_TABLES.items():
            query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - constants
            log_rows = source.execute(f"{query} WHERE feed = ? ORDER BY key", (feed_id,))
            insert = _insert(table, ("feed", *columns))
            count += _write(target, insert, ((new_id, *row) for row in log_rows))
    return count


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - constants


def _write(target: Transaction, insert: str, rows: Iterable[Sequence[Any]]) -> int:
    iterator: Iterator[Sequence[Any]] = iter(rows)
    count = 0
    while chunk := list(islice(iterator, ROWS_PER_CHUNK)):
        target.executemany(insert, chunk)
        count += len(chunk)
    return count


def _series(workspace_id: int, workspace: str, row: Sequence[Any]) -> Sequence[Any]:
    """Return a row of a series, which is about a workspace of another name."""
    family, encoded, value, created = row
    labels = (workspace, *decode_labels(encoded)[1:])
    number = series_id((family, labels))
    return workspace_id, number, family, encode_labels(labels), value, created
