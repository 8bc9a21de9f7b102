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
    # What was counted and forgotten before is known by the totals only, so they are believed once.
    """
    ALTER TABLE scope ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE scope ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
    UPDATE scope SET counted = (
        SELECT coalesce(sum(CAST(CAST(value AS TEXT) AS REAL)), 0) FROM series
        WHERE json_extract(labels, '$[0]') = workspace AND (
            family = 'late_publishing_logs_total' AND feed = 'publishing'
            OR family = 'late_connection_events_total' AND feed = 'connections'
            OR family = 'late_exporter_entries_rejected_total' AND json_extract(labels, '$[1]') = feed
        )
    );
    UPDATE scope SET forgotten = max(0, counted - (SELECT count(*) FROM sighting WHERE sighting.scope = scope.id))
    """,
    # By which a log is recognized when the generation of the API changes.
    """
    ALTER TABLE sighting ADD COLUMN mark TEXT;
    ALTER TABLE sighting ADD COLUMN detail TEXT
    """,
)
"""One step a schema version; steps are only ever added."""
