"""Check a state in PostgreSQL, and write workspaces to it that are copied from another one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.series import Labels
from late_exporter.store import checks
from late_exporter.store.copying import TABLES, Row
from late_exporter.store.postgres import queries
from late_exporter.store.postgres.database import (
    EXPORTER_NAME,
    LONG_DEADLINE_SECONDS,
    REPLICA_NAME,
    SETTINGS,
    Database,
    DeadlineConnection,
)
from late_exporter.store.postgres.days import Partitions, observation_day
from late_exporter.store.postgres.schema import create_schema
from late_exporter.store.postgres.snapshot import PostgresSnapshot

ROWS_PER_COPY = 5000

USERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"  # noqa: S608 - constants
    f" AND application_name IN ('{EXPORTER_NAME}', '{REPLICA_NAME}')"
)


class PostgresAdmin:
    """Administrative operations on the state in a database.

    An exporter that is running is refused, and one that starts meanwhile is fenced off.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._url, self._password_file = url, password_file
        self.name = self._connect().name

    def _connect(self) -> Database:
        return Database(self._url, self._password_file, application_name="late-exporter command")

    def is_in_use(self) -> bool:
        """Return whether an exporter is connected; behind pgbouncer it may not be known."""
        with self._connect() as database:
            return bool(database.run(lambda connection: queries.one(connection, USERS)[0]))

    def backup(self, target: Path) -> NoReturn:
        raise StoreError(f"{self.name}: back up with pg_dump or as the server is, or use state copy; not to {target}")

    def check(self) -> Iterator[str]:
        with PostgresSnapshot(self._url, self._password_file) as snapshot:
            yield from checks.inconsistencies(snapshot)

    @contextmanager
    def writing(self) -> Iterator[PostgresTarget]:
        deadline = time.monotonic() + LONG_DEADLINE_SECONDS
        with (
            self._connect() as database,
            database.store_errors(),
            database.connected(deadline) as connection,
            connection.transaction(),
        ):
            if queries.one(connection, USERS)[0]:
                raise StoreInUse(f"{self.name} is in use by an exporter")
            create_schema(database, connection)
            connection.execute(SETTINGS)
            connection.execute("UPDATE late_scope SET token = %s", (secrets.randbits(62),))
            yield PostgresTarget(connection, self.name)
            connection.renew_deadline()


class PostgresTarget:
    """A state within a transaction that writes to it."""

    def __init__(self, connection: DeadlineConnection, name: str) -> None:
        self.name = name
        self._connection = connection
        self._partitions = Partitions()
        self._partitions.load(connection)
        self._token = secrets.randbits(62)
        self._days: dict[tuple[int, str], int] = {}

    @property
    def workspaces(self) -> Sequence[str]:
        return queries.workspace_names(self._connection)

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
        return queries.state_rows(self._connection, table, workspaces)

    def last_id(self, table: str) -> int:
        (last_id,) = queries.one(
            self._connection,
            f"SELECT coalesce(max(id), 0) FROM {queries.TABLE_NAMES[table]}",  # noqa: S608 - a constant
        )
        return int(last_id)

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        name, iterator = queries.TABLE_NAMES[table], iter(rows)
        while chunk := [dict(zip(TABLES[table].columns, row, strict=True)) for row in islice(iterator, ROWS_PER_COPY)]:
            self._connection.renew_deadline()
            if table == "observation":
                days = [observation_day(row["key"], row["created"]) for row in chunk]
                self._partitions.create(self._connection, days)
            converted = [self._convert(table, row) for row in chunk]
            with (
                self._connection.cursor() as cursor,
                cursor.copy(f"COPY {name} ({', '.join(converted[0])}) FROM STDIN") as copy,
            ):
                for row in converted:
                    copy.write_row(tuple(map(_copied, row.values())))
        if "id" in TABLES[table].columns:
            self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), greatest(1, max(id))) FROM {name}"  # noqa: S608 - a constant
            )

    def _convert(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of a row in PostgreSQL."""
        for name in queries.TEXT_COLUMNS:
            if isinstance(text := row.get(name), str):
                row[name] = queries.encode(text)
        if table == "scope":
            row |= {"token": self._token, "restored": bool(row["restored"]), "revision": row.pop("commits")}
        elif table == "observation":
            row["day"] = self._day(row)
        elif table == "series":
            workspace, *_ = msgspec.json.decode(row["labels"], type=Labels)
            identity = queries.series_id(row["family"], row["labels"])
            row |= {"workspace": workspace, "id": identity}
        return row

    def _day(self, row: dict[str, Any]) -> int:
        """Return the day of an observation: all statuses of a log, which follow each other, are in one partition."""
        log = row["scope"], row["key"]
        if log not in self._days:
            self._days = {log: self._partitions.place(observation_day(row["key"].decode(), row["created"]))}
        return self._days[log]


def _copied(value: object) -> object:
    """Return a value for COPY; psycopg escapes bytes twice if the session has standard_conforming_strings off."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
