"""The connection to a PostgreSQL database: reconnected when it is lost, with a deadline for every operation."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from late_exporter.errors import ConfigError, StoreError

T = TypeVar("T")

EXPORTER_NAME, REPLICA_NAME = "late-exporter", "late-exporter replica"
"""Names of the sessions of an exporter, and of one that shares the state with others."""

MAX_CLEANUP_STEPS = 10
"""Steps that the clean-up of a psycopg generator may take after the deadline."""

DEADLINE_SECONDS = 5.0
"""Longest time of a commit or a look-up, which take milliseconds; a process that is stopped waits for it."""

LONG_DEADLINE_SECONDS = 600.0
"""Longest time of an operation that reads or writes all logs, or of a part of one that takes any time."""

PAUSE_SECONDS = 1.0
"""Time after a connection that timed out in which calls fail at once: those that wait for it must not add up."""

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Start of each transaction, whatever the default of the database is: a lock is of no use to an older snapshot."""

DEFAULTS: dict[str, Any] = {
    "client_encoding": "UTF8",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""Connection parameters that the URL may override."""

LIBPQ = psycopg.pq.version() // 10_000

REFUSES_CLEAR_TEXT = LIBPQ >= 16  # noqa: PLR2004 - the first version with require_auth
"""Whether libpq can refuse to send a password in clear text: that of psycopg[binary] can, one of the system may not."""

LOCAL_HOST = re.compile(r"|localhost|127\.[\d.]+|::1|[/@].*")
"""This machine: the default, a loopback address, or the folder of a Unix socket."""

# Set for each transaction: behind pgbouncer in transaction mode a session has no settings. A commit that is not durable
# must not be shown, so that an asynchronous commit is not accepted, while a stricter setting of the database is kept.
# The server has to notice that this machine is gone, because it keeps locks of an incomplete transaction until then.
SETTINGS = (
    "SELECT set_config('lock_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '60s', true),"
    " set_config('tcp_keepalives_idle', '5', true), set_config('tcp_keepalives_interval', '3', true),"
    " set_config('tcp_keepalives_count', '3', true),"
    " set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    " ELSE current_setting('synchronous_commit') END, true)"
)

NO_RIGHT = (
    "the user needs the right to create tables in the schema, and must own those of the state; make it the owner of"
    " both"
)

INCOMPLETE = (
    "the state is incomplete; restore a backup, or drop the tables whose names begin with late_ to begin a new state"
)

REMEDIES: Mapping[str, str] = {
    "08001": "the server asks for the password in clear text, or for none: use sslmode=verify-full, or accept that with"
    " require_auth=password or require_auth=none in --state.url",
    "25006": "the server is read-only, as a standby, during a failover or by default_transaction_read_only; name the"
    " primary in --state.url, or several hosts with target_session_attrs=read-write",
    "28P01": "check the user in --state.url and the password in --state.password-file or PGPASSFILE",
    "3D000": "create the database, with encoding UTF8",
    "3F000": NO_RIGHT,
    "42501": NO_RIGHT,
    "42P01": INCOMPLETE,
    "42P07": INCOMPLETE,
    "53100": "free some space; nothing is lost meanwhile",
    "53300": "raise max_connections or the limit of the user, or put pgbouncer in front; late-exporter uses one"
    " connection, a replica two",
}
"""What to do about an error, by SQLSTATE."""

CONNECTION_ERRORS: Mapping[str, str] = {
    "authentication method requirement": "08001",
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    'database ".*" does not exist': "3D000",
    "too many (clients|connections)": "53300",
    "remaining connection slots": "53300",
}
"""SQLSTATE by a pattern of the message: libpq reports none for an error while it connects."""


# Its warnings are about errors while it cleans up after one that is raised.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class DeadlineConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose operations fail at a deadline; libpq itself waits for as long as the network hangs."""

    deadline = float("inf")

    def renew_deadline(self) -> None:
        """Give the next part of an operation that reads or writes all logs its time."""
        self.deadline = time.monotonic() + LONG_DEADLINE_SECONDS

    def wait(self, gen: PQGen[T], *args: Any, **keywords: Any) -> T:
        return super().wait(until_deadline(gen, self.deadline), *args, **keywords)


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
    error = psycopg.OperationalError("no answer in time")
    # The clean-up may wait as well, and a generator that is left there prints a traceback when it is freed.
    with suppress(StopIteration):
        for _ in range(MAX_CLEANUP_STEPS):
            gen.throw(error)
    raise error


class Database:
    """One PostgreSQL database.

    Args:
        url: URL of the database, which may have a password.
        password_file: File with the password, read at each connection, so that it may change.
        application_name: Name of the sessions, by which an exporter is recognised.

    Raises:
        ConfigError: libpq does not understand the URL.
    """

    def __init__(self, url: str, password_file: Path | None = None, *, application_name: str = EXPORTER_NAME) -> None:
        self.name = database_name(url)
        self._password_file = password_file
        try:
            parameters = conninfo_to_dict(url)
        except psycopg.Error as exc:
            raise ConfigError(f"--state.url {self.name!r}: {_first_line(exc)}") from None
        self._parameters: dict[str, Any] = {
            **DEFAULTS,
            **required_authentication(parameters, has_password_file=password_file is not None),
            **parameters,
            "application_name": application_name,
        }
        self._connection: DeadlineConnection | None = None
        self._paused_until = 0.0
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._is_closed = True
        self.disconnect()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def disconnect(self) -> None:
        """Close the connection; the next operation opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def connected(self, deadline: float) -> Iterator[DeadlineConnection]:
        """Yield the connection, which is closed after any error that may leave a transaction open.

        Args:
            deadline: Monotonic time at which an operation fails, without the time that it takes to connect: hosts that
                do not answer are tried first, and must not leave no time for the one that does.

        Raises:
            psycopg.Error: The server cannot be reached, or an operation failed.
        """
        started_at = time.monotonic()
        connection = self.connect()
        deadline += time.monotonic() - started_at
        connection.deadline = deadline
        try:
            yield connection
        except BaseException as exc:
            self._recover(connection)
            if isinstance(exc, psycopg.Error) and time.monotonic() > deadline:
                raise psycopg.OperationalError("no answer in time") from exc
            raise

    def run(self, work: Callable[[DeadlineConnection], T], seconds: float | None = None) -> T:
        """Return the result of an operation that may be repeated; repeat it if the connection was lost meanwhile.

        Args:
            work: The operation.
            seconds: Time after which it fails; DEADLINE_SECONDS by default.

        Raises:
            StoreError: The state cannot be read or written.
        """
        deadline = time.monotonic() + (seconds or DEADLINE_SECONDS)
        with self.store_errors():
            if self.is_connected:  # The server may have closed the connection since it was last used.
                try:
                    with self.connected(deadline) as connection:
                        return work(connection)
                except psycopg.OperationalError:
                    if self.is_connected or time.monotonic() > deadline:
                        raise
            with self.connected(deadline) as connection:
                return work(connection)

    def transact(self, *statements: tuple[str, Any], seconds: float | None = None) -> list[tuple[Any, ...]]:
        """Execute statements, which may be repeated, in one durable transaction and one round trip; return all rows.

        Raises:
            StoreError: Nothing was changed, or it is not known.
        """

        def execute(connection: DeadlineConnection) -> list[tuple[Any, ...]]:
            with connection.pipeline():
                connection.execute(BEGIN)
                connection.execute(SETTINGS)
                cursors = [connection.execute(statement, parameters) for statement, parameters in statements]
                connection.execute("COMMIT")
            return [row for cursor in cursors if cursor.description for row in cursor]

        return self.run(execute, seconds)

    @contextmanager
    def store_errors(self) -> Iterator[None]:
        """Raise the errors of reading and writing a state as StoreError, which names the database and a remedy."""
        try:
            yield
        except psycopg.Error as exc:
            remedy = REMEDIES.get(_sqlstate(exc), "")
            raise StoreError(f"{self.name}: {_first_line(exc)}{'; ' if remedy else ''}{remedy}") from exc
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as exc:
            raise StoreError(f"{self.name}: {exc}") from exc

    def connect(self) -> DeadlineConnection:
        """Return the connection, another one if it was closed; raise psycopg.Error if the server cannot be reached."""
        if self._is_closed:
            raise StoreError(f"{self.name}: the state is closed")
        if self._connection is None or self._connection.closed:
            parameters = dict(self._parameters)
            if self._password_file is not None:
                parameters["password"] = self._read_password(self._password_file)
            self._connection = self._open(parameters)
        return self._connection

    def _open(self, parameters: Mapping[str, Any]) -> DeadlineConnection:
        start = time.monotonic()
        if start < self._paused_until:
            raise psycopg.OperationalError("the server does not answer")
        try:
            # No prepared statements: another server connection of pgbouncer does not have them.
            connection = DeadlineConnection.connect("", autocommit=True, prepare_threshold=None, **parameters)
        except psycopg.OperationalError:
            end = time.monotonic()
            if end - start > PAUSE_SECONDS:
                self._paused_until = end + PAUSE_SECONDS
            raise
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def _read_password(self, path: Path) -> str:
        try:
            return path.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
            raise StoreError(f"--state.password-file {path}: cannot be read: {reason}") from exc

    def _recover(self, connection: DeadlineConnection) -> None:
        status = psycopg.pq.TransactionStatus
        if not connection.broken and connection.info.transaction_status == status.INERROR:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        if connection.broken or connection.closed or connection.info.transaction_status != status.IDLE:
            self.disconnect()


def required_authentication(parameters: Mapping[str, Any], *, has_password_file: bool) -> Mapping[str, str]:
    """Return what the server must ask for, so that one that pretends to be it does not get the password in clear text.

    A verified server may ask for anything. If a password file is given, another machine must ask for it.
    """
    mode = str(parameters.get("sslmode") or os.environ.get("PGSSLMODE", ""))
    if mode.startswith("verify-") or "PGREQUIREAUTH" in os.environ or not REFUSES_CLEAR_TEXT:
        return {}
    names = ("hostaddr", "host")
    hosts = [parameters.get(name) for name in names] + [os.environ.get(f"PG{name.upper()}") for name in names]
    is_local = all(map(is_local_host, next(filter(None, hosts), "").split(",")))
    return {"require_auth": "!password,!none" if has_password_file and not is_local else "!password"}


def is_local_host(host: str) -> bool:
    return LOCAL_HOST.fullmatch(host) is not None


def database_name(url: str) -> str:
    """Return a URL without its password and parameters, for messages."""
    scheme, slashes, rest = url.partition("?")[0].partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{place}"


def _sqlstate(exc: psycopg.Error) -> str:
    found = (state for pattern, state in CONNECTION_ERRORS.items() if re.search(pattern, str(exc)))
    return exc.sqlstate or next(found, "")


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0] or type(exc).__name__
