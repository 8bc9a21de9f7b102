"""The schema of the SQLite state and its migrations."""

from __future__ import annotations

from sqlite3 import Connection

APPLICATION_ID = 0x4C617465
"""Identifies a state of late-exporter; the ASCII codes of ``Late``."""

# Keys begin with a time, so that new observations are appended at the end of the B-tree.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE scope (
        id INTEGER PRIMARY KEY,
        workspace TEXT NOT NULL,
        feed TEXT NOT NULL,
        coverage BLOB,
        progress BLOB,
        logs INTEGER NOT NULL DEFAULT 0,
        observations INTEGER NOT NULL DEFAULT 0,
        pruned INTEGER NOT NULL DEFAULT 0,
        commits INTEGER NOT NULL DEFAULT 0,
        restored INTEGER NOT NULL DEFAULT 0,
        UNIQUE (workspace, feed)
    );
    CREATE TABLE observation (
        scope INTEGER NOT NULL,
        key TEXT NOT NULL,
        status TEXT NOT NULL,
        created INTEGER,
        PRIMARY KEY (scope, key, status)
    ) WITHOUT ROWID;
    CREATE TABLE logs_per_minute (
        scope INTEGER NOT NULL,
        minute INTEGER NOT NULL,
        logs INTEGER NOT NULL,
        PRIMARY KEY (scope, minute)
    ) WITHOUT ROWID;
    CREATE TABLE pending (
        scope INTEGER NOT NULL,
        key TEXT NOT NULL,
        created INTEGER NOT NULL,
        platform TEXT NOT NULL,
        action TEXT NOT NULL,
        post_id TEXT,
        PRIMARY KEY (scope, key)
    ) WITHOUT ROWID;
    CREATE TABLE series (
        family TEXT NOT NULL,
        labels TEXT NOT NULL,
        value BLOB NOT NULL,
        created REAL NOT NULL,
        served INTEGER NOT NULL DEFAULT 1,
        PRIMARY KEY (family, labels)
    ) WITHOUT ROWID;
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        scope INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        body BLOB NOT NULL
    )
    """,
)
"""The statements of each schema version; released ones never change."""


def migrate(connection: Connection, version: int, target: int = len(MIGRATIONS)) -> None:
    """Bring the schema from one version to another, within the transaction of the caller."""
    for migration in MIGRATIONS[version:target]:
        for statement in migration.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {target}")
