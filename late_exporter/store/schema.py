"""The tables of a state, the same in every database."""

from __future__ import annotations

import secrets
from contextlib import suppress

from late_exporter.errors import StoreError
from late_exporter.store.database import Database, Queries, Transaction

VERSION = 1

# Keys begin with a time in both generations of the API, so that new logs are appended to the index. An index on the
# time itself would double the size of a state. PostgreSQL's text has no byte order by default, and SQLite's has.
STATEMENTS = (
    # lock_class is the first half of the advisory locks of a state: a database may contain several, in schemas.
    "CREATE TABLE late_state (version INTEGER NOT NULL, lock_class INTEGER NOT NULL)",
    "CREATE TABLE late_workspace (id {id}, name {text} NOT NULL UNIQUE)",
    """CREATE TABLE late_feed (
        id {id}, workspace BIGINT NOT NULL, name {text} NOT NULL,
        revision BIGINT NOT NULL DEFAULT 0, coverage {text}, progress {text}, failures {text},
        logs BIGINT NOT NULL DEFAULT 0, observations BIGINT NOT NULL DEFAULT 0, pruned BIGINT NOT NULL DEFAULT 0,
        UNIQUE (workspace, name)
    )""",
    """CREATE TABLE late_log (
        feed BIGINT NOT NULL, key {text} NOT NULL, status {text} NOT NULL, created BIGINT NOT NULL,
        PRIMARY KEY (feed, key, status)
    ) {without_rowid}""",
    """CREATE TABLE late_pending (
        feed BIGINT NOT NULL, key {text} NOT NULL, created BIGINT NOT NULL, platform {text} NOT NULL,
        action {text} NOT NULL, post_id {text}, PRIMARY KEY (feed, key)
    ) {without_rowid}""",
    """CREATE TABLE late_series (
        workspace BIGINT NOT NULL, id {text} NOT NULL, family {text} NOT NULL, labels {text} NOT NULL,
        value {text} NOT NULL, created DOUBLE PRECISION NOT NULL, PRIMARY KEY (workspace, id)
    ) {without_rowid}""",
)

TABLES = ("late_workspace", "late_feed", "late_log", "late_pending", "late_series")


def require_state(database: Database, queries: Queries) -> bool:
    """Return whether there is a state; raise StoreError if it has another schema."""
    if not database.has_state(queries):
        return False
    versions = queries.execute("SELECT version FROM late_state").fetchall()
    if versions != [(VERSION,)]:
        raise StoreError(
            f"{database.name} is a state of another version of late-exporter (schema"
            f" {', '.join(str(version) for (version,) in versions) or 'unknown'}, this version uses {VERSION}); it was"
            " not changed: use that version, or name another state with --state.url"
        )
    return True


def create_state(database: Database) -> None:
    """Create the tables, if there are none; raise StoreError if the state cannot be used."""
    with database.transaction() as transaction:
        if not require_state(database, transaction):
            _create_tables(database, transaction)


def require_writable(database: Database) -> None:
    """Write to each table and roll it back, or create the tables; raise StoreError if this user cannot."""
    database.attach()
    try:
        with suppress(_Rollback), database.transaction() as transaction:
            if not require_state(database, transaction):
                _create_tables(database, transaction)
            for table in TABLES:
                transaction.execute(f"DELETE FROM {table} WHERE 1 = 0")  # noqa: S608 - a constant
            transaction.execute("SELECT version FROM late_state").fetchone()  # PostgreSQL reports errors when read.
            raise _Rollback
    finally:
        database.close()


def _create_tables(database: Database, transaction: Transaction) -> None:
    for statement in STATEMENTS:
        transaction.execute(statement.format(**database.types))
    transaction.execute("INSERT INTO late_state VALUES (?, ?)", (VERSION, secrets.randbits(31)))


class _Rollback(Exception):
    pass
