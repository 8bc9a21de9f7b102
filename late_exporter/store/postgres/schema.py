"""Create and check the schema of a state in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from late_exporter.errors import StoreError
from late_exporter.store.postgres.database import SETTINGS, Database, DeadlineConnection
from late_exporter.store.schema import SCHEMA_VERSION, require_version

VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS late_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema integer NOT NULL
)
"""

LOCK = 0x4C617465
"""Advisory lock of changes of the schema; the ASCII codes of ``Late``."""


def create_schema(database: Database, connection: DeadlineConnection) -> None:
    """Create the tables of a state, under a lock, in one transaction; do nothing if there is one.

    Raises:
        StoreError: The state has another schema, or the database does not have the encoding UTF8.
    """
    if has_state(database, connection):
        return
    with connection.transaction():
        connection.execute(SETTINGS)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(VERSION_TABLE)  # Whether it existed before the lock is cached by the session.
        if not _has_schema(database, connection):
            connection.execute(Path(__file__).with_name("schema.sql").read_bytes())
            connection.execute("INSERT INTO late_state (schema) VALUES (%s)", (SCHEMA_VERSION,))


def has_state(database: Database, connection: DeadlineConnection) -> bool:
    """Return whether the database has a state; raise StoreError if it cannot be used."""
    encoding, has_table = connection.execute(
        "SELECT current_setting('server_encoding'), to_regclass('late_state') IS NOT NULL"
    ).fetchone() or ("", False)
    if encoding != "UTF8":
        raise StoreError(f"{database.name}: the database has the encoding {encoding}; create one with UTF8")
    return has_table and _has_schema(database, connection)


def _has_schema(database: Database, connection: DeadlineConnection) -> bool:
    row = connection.execute("SELECT schema FROM late_state").fetchone()
    if row is not None:
        require_version(row[0], database.name)
    return row is not None
