"""Copy the workspaces of a state to another one, as streams of rows, in one transaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.store import database_at
from late_exporter.store.database import Queries, Transaction
from late_exporter.store.migrations import open_state, require_current

ROWS_PER_CHUNK = 5_000

WORKSPACES = "SELECT id, name FROM late_workspace ORDER BY name"
FEED_COLUMNS = (
    "name", "revision", "coverage", "progress", "failures", "logs", "observations", "pruned"
)  # fmt: skip
SERIES_COLUMNS = ("id", "family", "labels", "value", "created")
FEED_TABLES = {
    "late_log": ("key", "status", "created"),
    "late_pending": ("key", "created", "platform", "action", "post_id"),
}
"""Columns of the tables whose rows belong to a feed."""


def copy_state(source_url: str, target_url: str, password_file: Path | None = None) -> None:
    """Copy all workspaces.

    Args:
        source_url: State to read.
        target_url: State that must have none of the workspaces; it is created if it does not exist.
        password_file: File with the password of the databases.

    Raises:
        StoreInUse: An exporter has one of the states open.
        StoreError: A workspace exists in the target; nothing was copied.
    """
    source = database_at(source_url, password_file)
    target = database_at(target_url, password_file)
    for database in (source, target):
        if database.is_in_use():
            raise StoreInUse(f"{database.name}: in use by an exporter; stop it first")
    with source.snapshot() as rows:
        require_current(source, rows)
    # An open snapshot would keep the target from switching to WAL if both are the same backup file.
    open_state(target)
    try:
        # In PostgreSQL, each answer has its own deadline.
        with source.snapshot() as rows, target.transaction(seconds=math.inf) as transaction:
            taken = {name for _, name in transaction.execute(WORKSPACES)}
            for workspace_id, name in rows.execute(WORKSPACES).fetchall():
                if name in taken:
                    raise StoreError(
                        f"{target.name}: there is a workspace {name} already, and nothing was"
                        " copied; copy into another state"
                    )
                _copy_workspace(rows, transaction, workspace_id, name)
    finally:
        target.close()


def _copy_workspace(source: Queries, target: Transaction, workspace_id: int, name: str) -> None:
    insert = f"{_insert('late_workspace', ('name',))} RETURNING id"
    (new_workspace_id,) = target.execute(insert, (name,)).fetchone()
    ids = ("workspace", workspace_id, new_workspace_id)
    _copy_rows(source, target, "late_series", SERIES_COLUMNS, ids)

    query = f"SELECT id, {', '.join(FEED_COLUMNS)} FROM late_feed WHERE workspace = ? ORDER BY id"  # noqa: S608 - constants
    insert = f"{_insert('late_feed', ('workspace', *FEED_COLUMNS))} RETURNING id"
    for feed_id, *values in source.execute(query, (workspace_id,)).fetchall():
        (new_feed_id,) = target.execute(insert, (new_workspace_id, *values)).fetchone()
        for table, columns in FEED_TABLES.items():
            _copy_rows(source, target, table, columns, ("feed", feed_id, new_feed_id))


def _copy_rows(
    source: Queries,
    target: Transaction,
    table: str,
    columns: Sequence[str],
    owner: tuple[str, int, int],
) -> None:
    """Copy the rows of a workspace or a feed: the column of its id, the old and the new id."""
    column, old_id, new_id = owner
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE {column} = ? ORDER BY {columns[0]}"  # noqa: S608 - constants
    rows = iter(source.execute(query, (old_id,)))
    insert = _insert(table, (column, *columns))
    while chunk := [(new_id, *row) for row in islice(rows, ROWS_PER_CHUNK)]:
        target.executemany(insert, chunk)


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - constants
