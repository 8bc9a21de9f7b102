"""The tables of the SQLite state, version by version."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x4C617465
"""Marks a file as ours; the letters of Late."""

# The API's ids begin with a time, so that new rows of sighting go to the end of the tree.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE scope (
        id INTEGER PRIMARY KEY,
        workspace TEXT NOT NULL,
        feed TEXT NOT NULL,
        coverage BLOB,
        logs INTEGER NOT NULL DEFAULT 0,
        UNIQUE (workspace, feed)
    );
    CREATE TABLE sighting (
        scope INTEGER NOT NULL,
        key TEXT NOT NULL,
        status TEXT NOT NULL,
        created INTEGER,
        PRIMARY KEY (scope, key, status)
    ) WITHOUT ROWID;
    CREATE TABLE tally (
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
        PRIMARY KEY (family, labels)
    ) WITHOUT ROWID
    """,
)
"""One step a schema version; steps are only ever added."""
