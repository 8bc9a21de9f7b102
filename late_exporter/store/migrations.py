"""The tables of a state, and the steps that make each version of them of the one before.

They are the same in every database.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from late_exporter.errors import StoreError, StoreMissing, StoreOutdated
from late_exporter.log import Logger
from late_exporter.store.database import Database, Queries, Transaction

Step = Callable[[Transaction, Mapping[str, str]], None]
"""Changes the tables; gets the words that differ between databases."""


def create_tables(transaction: Transaction, types: Mapping[str, str]) -> None:
    """Create the tables of version 1."""
    for statement in TABLES_OF_VERSION_1:
        transaction.execute(statement.format(**types))
    transaction.execute("INSERT INTO late_state VALUES (0, ?)", (secrets.randbits(31),))


# Keys begin with a time in both generations of the API, so that new logs are appended to the index.
# An index on the time itself would double the size of a state. PostgreSQL's text has no byte order
# by default, and SQLite's has.
TABLES_OF_VERSION_1 = (
    # lock_class is the first half of the advisory locks of a state: a database may contain several,
    # in schemas.
    "CREATE TABLE late_state (version INTEGER NOT NULL, lock_class INTEGER NOT NULL)",
    "CREATE TABLE late_workspace (id {id}, name {text} NOT NULL UNIQUE)",
    """CREATE TABLE late_feed (
        id {id}, workspace BIGINT NOT NULL, name {text} NOT NULL,
        revision BIGINT NOT NULL DEFAULT 0, coverage {text}, progress {text}, failures {text},
        logs BIGINT NOT NULL DEFAULT 0, observations BIGINT NOT NULL DEFAULT 0,
        pruned BIGINT NOT NULL DEFAULT 0, UNIQUE (workspace, name)
    )""",
    """CREATE TABLE late_log (
        feed BIGINT NOT NULL, key {text} NOT NULL, status {text} NOT NULL, created BIGINT NOT NULL,
        PRIMARY KEY (feed, key, status)
    ) {without_rowid}""",
    """CREATE TABLE late_pending (
        feed BIGINT NOT NULL, key {text} NOT NULL, created BIGINT NOT NULL,
        platform {text} NOT NULL, action {text} NOT NULL, post_id {text}, PRIMARY KEY (feed, key)
    ) {without_rowid}""",
    """CREATE TABLE late_series (
        workspace BIGINT NOT NULL, id {text} NOT NULL, family {text} NOT NULL,
        labels {text} NOT NULL, value {text} NOT NULL, created DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (workspace, id)
    ) {without_rowid}""",
)

TABLES = ("late_workspace", "late_feed", "late_log", "late_pending", "late_series")

STEPS: Sequence[Step] = (create_tables,)
"""The first makes version 1 of an empty database, the second version 2 of it, and so on.

A step that was released is never changed: append another one. A state is also created by all of
them.
"""


def version_of(database: Database, queries: Queries) -> int:
    """Return the version of a state, 0 if there is none; raise StoreError if it is a later one."""
    if not database.has_state(queries):
        return 0
    rows = queries.execute("SELECT version FROM late_state").fetchall()
    if len(rows) == 1 and 1 <= rows[0][0] <= len(STEPS):
        return int(rows[0][0])
    found = ", ".join(str(version) for (version,) in rows) or "unknown"
    raise StoreError(
        f"{database.name} is a state of another version of late-exporter (schema {found}, this"
        f" version uses {len(STEPS)}); it was not changed: use that version, or name another state"
        " with --state.url"
    )


def require_current(database: Database, queries: Queries) -> None:
    """Raise StoreError if there is no state of this program's version."""
    version = version_of(database, queries)
    if not version:
        raise StoreMissing(f"{database.name}: there is no state")
    if version < len(STEPS):
        raise StoreOutdated(
            f"{database.name} is a state of an earlier version of late-exporter (schema {version},"
            f" this version uses {len(STEPS)}); an exporter of this version upgrades it when it"
            " starts: back it up before, with state backup or pg_dump"
        )


def open_state(
    database: Database,
    *,
    is_shared: bool = False,
    creates: bool = True,
    logger: Logger | None = None,
) -> None:
    """Connect to a database, create its state if there is none, lock it, and upgrade it.

    Args:
        database: Database that is not connected; it is closed again if anything fails.
        is_shared: Whether replicas share the state; otherwise other processes are excluded.
        creates: Whether a missing state is created.
        logger: Logger of an upgrade.

    Raises:
        StoreInUse: Another process has it open, and does not share it.
        StoreMissing: There is no state, and none is to be created.
        StoreError: The state cannot be used, or its upgrade fails; it has the version that it had.
    """
    database.connect()
    try:
        with database.transaction() as transaction:
            _create_missing(database, transaction, creates=creates)
        database.lock_state(is_shared=is_shared)
        _upgrade_locked(database, logger)
    except BaseException:
        database.close()
        raise


def _create_missing(database: Database, transaction: Transaction, *, creates: bool) -> None:
    if version_of(database, transaction):
        return
    if not creates:
        raise StoreMissing(f"{database.name}: the state is gone; restart to create another")
    _upgrade(database, transaction)


def _upgrade_locked(database: Database, logger: Logger | None) -> None:
    # Another process may have upgraded it before it was locked: a replica that comes back beside
    # those of a newer version must not write.
    with database.transaction() as transaction:
        version = version_of(database, transaction)
    if version == len(STEPS):
        return
    if logger is not None:
        logger.info(
            "upgrading the state; an earlier version can only use a backup from before",
            state=database.name,
            schema=version,
            new_schema=len(STEPS),
        )
    # Another transaction: two that read late_state, and then want to exclude all who read it, would
    # deadlock.
    with database.transaction(seconds=math.inf) as transaction:
        database.end_other_sessions(transaction)
        _upgrade(database, transaction)


def rehearse(database: Database) -> None:
    """Create or upgrade a state, write to each table, and roll all of it back.

    Raises:
        StoreError: That fails.
    """
    database.attach()
    try:
        with suppress(_Rollback), database.transaction(seconds=math.inf) as transaction:
            _upgrade(database, transaction)
            for table in TABLES:
                transaction.execute(f"DELETE FROM {table} WHERE 1 = 0")  # noqa: S608 - a constant
            # PostgreSQL reports errors when a result is read.
            transaction.execute("SELECT version FROM late_state").fetchone()
            raise _Rollback
    finally:
        database.close()


def _upgrade(database: Database, transaction: Transaction) -> None:
    """Run the steps that the state lacks."""
    version = version_of(database, transaction)
    for number, step in enumerate(STEPS[version:], version + 1):
        step(transaction, database.types)
        transaction.execute("UPDATE late_state SET version = ?", (number,))


class _Rollback(Exception):
    pass
