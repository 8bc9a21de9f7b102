"""The schema of the SQLite state and its migrations."""

from __future__ import annotations

from sqlite3 import Connection

APPLICATION_ID = 0x4C617465
"""Identifies a state of late-exporter; the ASCII codes of ``Late``."""

# Ids of the API begin with their time, so that new observations are appended at the end of the B-tree.
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
    # Earlier versions kept no record of pruned observations; the counters are the only source.
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
    # Names of the glossary, for tables as for metrics.
    """
    ALTER TABLE sighting RENAME TO observation;
    ALTER TABLE tally RENAME TO logs_per_minute;
    ALTER TABLE scope RENAME COLUMN counted TO observations;
    ALTER TABLE scope RENAME COLUMN forgotten TO pruned;
    UPDATE OR IGNORE series SET family = 'late_exporter_api_schema_drift_total'
        WHERE family = 'late_exporter_api_fields_drifted_total';
    UPDATE OR IGNORE series SET family = 'late_exporter_audit_last_completed_timestamp_seconds'
        WHERE family = 'late_exporter_audit_last_timestamp_seconds';
    UPDATE OR IGNORE series SET family = 'late_exporter_reconcile_last_completed_timestamp_seconds'
        WHERE family = 'late_exporter_last_reconcile_timestamp_seconds';
    UPDATE OR IGNORE series SET family = 'late_exporter_webhooks_rejected_total'
        WHERE family = 'late_exporter_webhooks_refused_total'
    """,
    # Whether the initial zero of a series was served; earlier versions showed the values of all stored series.
    """
    ALTER TABLE series ADD COLUMN served INTEGER NOT NULL DEFAULT 1
    """,
    # Work that later runs continue, and the number of the last commit, by which an older copy is noticed.
    """
    ALTER TABLE scope ADD COLUMN progress BLOB;
    ALTER TABLE scope ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE scope ADD COLUMN restored INTEGER NOT NULL DEFAULT 0
    """,
    # Stored logs that the API does not show any more.
    """
    ALTER TABLE logs_per_minute ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE scope ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0
    """,
    # Log events that are not delivered yet.
    """
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
