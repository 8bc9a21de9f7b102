"""What ``late-exporter check`` asks of a server: may this user write, and who else may read the connection."""

from __future__ import annotations

import time
from pathlib import Path

from late_exporter.errors import StoreError
from late_exporter.store.postgres.database import (
    BEGIN,
    DEADLINE_SECONDS,
    LIBPQ,
    NO_RIGHT,
    REFUSES_CLEAR_TEXT,
    SETTINGS,
    Database,
    is_local_host,
)
from late_exporter.store.postgres.queries import one

COMMAND_NAME = "late-exporter command"

# Needs the right to write each of the tables, and waits for no transaction of an exporter.
LOCK_TABLES = (
    "LOCK TABLE late_state, late_scope, ONLY late_observation, late_pending, late_series, late_event,"
    " late_member, late_workspace IN ROW EXCLUSIVE MODE"
)
# A partition per day is added, which only the owner may.
MAY_ADD_PARTITIONS = (
    "SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE')"
    " FROM pg_class WHERE oid = 'late_observation'::regclass"
)


def require_writable(url: str, password_file: Path | None = None) -> None:
    """Write to a state and roll it back; raise StoreError if this user cannot, or if a table is missing."""
    with Database(url, password_file, application_name=COMMAND_NAME) as database, database.store_errors():
        with database.connected(time.monotonic() + DEADLINE_SECONDS) as connection:
            connection.execute(BEGIN)
            connection.execute(SETTINGS)
            connection.execute(LOCK_TABLES)
            connection.execute("UPDATE late_state SET schema = schema")
            may_add_partitions = one(connection, MAY_ADD_PARTITIONS)[0]
            connection.execute("ROLLBACK")
        if not may_add_partitions:
            raise StoreError(f"{database.name}: this user cannot add partitions to late_observation; {NO_RIGHT}")


def connection_risk(url: str, password_file: Path | None = None) -> str:
    """Return what another machine could do to the connection; empty if nothing, or if the server is on this one."""
    with Database(url, password_file, application_name=COMMAND_NAME) as database, database.store_errors():
        options = {option.keyword: option.val or b"" for option in database.connect().pgconn.info}
        address, mode = database.connect().info.hostaddr, options[b"sslmode"].decode()
    if is_local_host(address) or mode.startswith("verify-"):
        return ""
    data = "the state" if REFUSES_CLEAR_TEXT else f"the state and, with libpq {LIBPQ}, the password"
    return f"with sslmode={mode}, others on the network can read and change {data}"
