"""The state in a PostgreSQL database.

One session has the advisory locks, and all commits run in it.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
from psycopg.abc import PQGen

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.store.database import LONG_SECONDS, SECONDS, Queries, Transaction
from late_exporter.store.postgres_connection import (
    NO_ANSWER,
    REMEDIES,
    connection_parameters,
    database_name,
    describe,
    read_password,
)

T = TypeVar("T")

MAX_CLEANUP_STEPS = 10
"""Steps that the clean-up of a psycopg generator may take after the deadline."""

SESSION = "late-exporter"
"""Beginning of the name of a session that uses a state; that of a command is another one."""

# The server has to notice that this machine is gone, because it keeps the locks of the session
# until then. A commit that is not durable must not be shown. No statement_timeout: it ends the wait
# for a synchronous standby, and the commit counts as done.
SETTINGS = (
    "SELECT set_config('lock_timeout', '3s', false),"
    " set_config('idle_in_transaction_session_timeout', '60s', false),"
    " set_config('tcp_keepalives_idle', '5', false),"
    " set_config('tcp_keepalives_interval', '3', false),"
    " set_config('tcp_keepalives_count', '3', false),"
    " set_config('tcp_user_timeout', '10000', false),"
    " set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),"
    " set_config('late_exporter.session', ?, false),"
    " current_setting('transaction_read_only')"
)

# A pooler in transaction mode lends the session of another client, or one of this client to
# another.
WHOSE_SESSION = "SELECT current_setting('late_exporter.session', true)"

# So that the outcome of the last commit is certain, and its locks are free.
END_FORMER_SESSIONS = (
    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name = ?"
    " AND pid <> pg_backend_pid()"
)
LOCK_CLASS = "SELECT lock_class FROM late_state"
LOCK_ALONE = "SELECT pg_advisory_lock(?, 0)"
LOCK_SHARED = "SELECT pg_advisory_lock_shared(?, 0)"

# A session reads late_state before it locks a workspace, so that none does until the transaction
# has ended.
LOCK_TABLE = "LOCK TABLE late_state IN ACCESS EXCLUSIVE MODE"

# It reads a table, because a session notices what others have created only when it locks one.
HAS_STATE = (
    "SELECT current_setting('server_encoding'),"
    " EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('late_state'))"
)

LOCKED = (
    "SELECT pid, objid::bigint AS number FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid::bigint = (SELECT lock_class FROM late_state)"
)

END_OTHER_SESSIONS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM"  # noqa: S608 - constants
    f" (SELECT DISTINCT pid FROM ({LOCKED}) AS l) AS other WHERE pid <> pg_backend_pid()"
)

SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r'"
    " AND starts_with(relname::text, 'late_') AND relnamespace ="
    " (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('late_state'))"
)

# Its warnings are about errors while it cleans up after one that is raised.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class DeadlineConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose operations fail at a deadline.

    libpq itself waits for as long as the network hangs.
    """

    deadline = float("inf")

    def wait(self, gen: PQGen[T], *args: Any, **keywords: Any) -> T:
        # A snapshot may be read for any time.
        deadline = min(self.deadline, time.monotonic() + LONG_SECONDS)
        return super().wait(until_deadline(gen, deadline), *args, **keywords)


def until_deadline(gen: PQGen[T], deadline: float) -> Generator[Any, Any, T]:
    """Pass a generator of psycopg on; raise OperationalError after the deadline."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() > deadline:
                break
            wanted = gen.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result
    error = psycopg.OperationalError(NO_ANSWER)
    # The clean-up may wait as well, and a generator that is left there prints a traceback when it
    # is freed.
    with suppress(StopIteration):
        for _ in range(MAX_CLEANUP_STEPS):
            gen.throw(error)
    raise error


class _Statements(NamedTuple):
    """Executes statements with ``?`` in a session."""

    connection: DeadlineConnection

    def execute(
        self, statement: str, parameters: Sequence[Any] = ()
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        return self.connection.execute(_with_percent(statement), parameters)

    def executemany(self, statement: str, rows: Any) -> None:
        self.connection.cursor().executemany(_with_percent(statement), rows)


class _Rows:
    """Rows that stay in the server until they are read, for which the query is executed."""

    def __init__(
        self, connection: DeadlineConnection, query: str, parameters: Sequence[Any]
    ) -> None:
        self._connection = connection
        self._query = query
        self._parameters = parameters

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        return [*self]

    def __iter__(self) -> Iterator[Any]:
        with self._connection.cursor(f"rows_{secrets.token_hex(8)}") as cursor:
            yield from cursor.execute(_with_percent(self._query), self._parameters)


class _SnapshotQueries(NamedTuple):
    """Executes queries of which several may be read at the same time."""

    connection: DeadlineConnection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> _Rows:
        return _Rows(self.connection, statement, parameters)


class PostgresDatabase:
    """A PostgreSQL database, used through one session, directly or by a pooler in session mode.

    A session that was lost is not replaced by itself: what it has locked has to be locked again
    first.

    Args:
        url: URL of the database, which may have a password.
        password_file: File with the password, read at each connection, so that it may change.

    Raises:
        ConfigError: libpq does not understand the URL.
    """

    types: Mapping[str, str] = {
        "id": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "text": 'TEXT COLLATE "C"',
        "without_rowid": "",
    }

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self.name = database_name(url)
        self.session_name = f"{SESSION} {secrets.token_hex(4)} {socket.gethostname()}"[:63]
        self._password_file = password_file
        self._parameters = connection_parameters(url, has_password_file=password_file is not None)
        self._connection: DeadlineConnection | None = None

    def connect(self) -> None:
        """Begin another session.

        Raises:
            StoreError: The server cannot be reached, refuses the user, or is read-only.
        """
        self.close()
        self._connection = self._open(self.session_name)
        with self.reading() as session:
            (row,) = session.execute(SETTINGS, (self.session_name,))
        is_read_only = row[-1] == "on"
        # A standby does not share the locks of its primary, and no replica could poll what this one
        # locks.
        if is_read_only:
            self.close()
            raise StoreError(f"{self.name}: {REMEDIES['25006']}")

    def lock_state(self, *, is_shared: bool = False) -> None:
        """Lock the whole state for this process, or for all replicas.

        Raises:
            StoreInUse: Another process uses it in another way.
        """
        with self.reading() as session:
            session.execute(END_FORMER_SESSIONS, (self.session_name,)).fetchall()
            (lock_class,) = session.execute(LOCK_CLASS).fetchall()
            try:
                session.execute(LOCK_SHARED if is_shared else LOCK_ALONE, lock_class).fetchall()
            except psycopg.errors.LockNotAvailable as exc:
                other = (
                    "an exporter without --state.replicas" if is_shared else "another late-exporter"
                )
                remedy = "stop it, or start all of them with --state.replicas"
                raise StoreInUse(f"{self.name} is in use by {other}; {remedy}") from exc

    def end_other_sessions(self, transaction: Transaction) -> None:
        transaction.execute(LOCK_TABLE)
        if not all(is_ended for (is_ended,) in transaction.execute(END_OTHER_SESSIONS).fetchall()):
            raise StoreInUse(
                f"{self.name}: an earlier version of late-exporter uses the state; stop it"
            )

    def attach(self) -> None:
        self.close()
        self._connection = self._open("command of late-exporter")

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    @contextmanager
    def transaction(self, *, seconds: float | None = None) -> Iterator[Transaction]:
        with self.reading(seconds=seconds) as session, session.connection.transaction():
            yield session

    @contextmanager
    def reading(self, *, seconds: float | None = None) -> Iterator[_Statements]:
        connection = self._connection
        if connection is None:
            raise StoreError(f"{self.name}: the connection was lost")
        connection.deadline = time.monotonic() + (SECONDS if seconds is None else seconds)
        try:
            with self._store_errors(), connection.pipeline():
                yield _Statements(connection)
        finally:
            # If a transaction may still be open, only the end of the session says what becomes of
            # it.
            status = connection.info.transaction_status
            if connection.broken or status != psycopg.pq.TransactionStatus.IDLE:
                self.close()

    @contextmanager
    def snapshot(self) -> Iterator[Queries]:
        with self._store_errors(), self._open("command of late-exporter") as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                yield _SnapshotQueries(connection)

    def require_session(self) -> None:
        """Ask the session whether it lives.

        Raises:
            StoreError: It does not, another one answers, or another process uses it.
        """
        with self.reading() as session:
            ((name,),) = session.execute(WHOSE_SESSION)
        if name != self.session_name:
            self.close()
            pooler = "connect directly, or through a pooler in session mode"
            raise StoreError(
                f"{self.name}: a pooler in transaction mode lends other sessions; {pooler}"
            )

    def has_state(self, queries: Queries) -> bool:
        encoding, has_table = queries.execute(HAS_STATE).fetchone()
        if encoding != "UTF8":
            raise StoreError(
                f"{self.name}: the database has the encoding {encoding}; create one with UTF8"
            )
        # Another replica may be creating it.
        if not has_table:
            queries.execute("SELECT pg_advisory_xact_lock(hashtext('late-exporter'))").fetchone()
            _, has_table = queries.execute(HAS_STATE).fetchone()
        return bool(has_table)

    def size(self, queries: Queries) -> int:
        return int(queries.execute(SIZE).fetchone()[0])

    def damage(self, queries: Queries) -> Iterator[str]:
        del queries  # pg_amcheck does that.
        yield from ()

    def is_in_use(self) -> bool:
        with self._store_errors(), self._open("command of late-exporter") as connection:
            session = _Statements(connection)
            return self.has_state(session) and bool(session.execute(LOCKED).fetchall())

    def backup(self, target: Path) -> int:
        raise StoreError(
            f"{self.name}: back up with pg_dump or as the server is, or use state copy; not to"
            f" {target}"
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, session_name: str) -> DeadlineConnection:
        parameters = {**self._parameters, "application_name": session_name}
        if self._password_file is not None:
            parameters["password"] = read_password(self._password_file)
        with self._store_errors():
            try:
                connection = DeadlineConnection.connect("", autocommit=True, **parameters)
            except UnicodeError as exc:
                raise StoreError(f"{self.name}: the host is not a valid name") from exc
        # whatever the default of the database is
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise the errors of reading and writing a state as StoreError.

        It names the database and a remedy.
        """
        try:
            yield
        except psycopg.Error as exc:
            raise StoreError(f"{self.name}: {describe(exc)}") from exc
        except msgspec.MsgspecError as exc:
            raise StoreError(f"{self.name}: {exc}") from exc


@lru_cache(256)
def _with_percent(statement: str) -> str:
    return statement.replace("?", "%s")
