"""The partitions of the observations: one per day, and one for the rest.

A log whose key and creation time agree on a day is in the partition of that day, if there is one. All others have the
day 0: those without a time, or with a key that has none or another one. A log is thus looked up in the partition of the
day in its key, and in the rest; all its statuses are in the same one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import suppress

import psycopg

from late_exporter.model import DAY_MS
from late_exporter.store.postgres.database import SETTINGS, DeadlineConnection
from late_exporter.store.postgres.schema import LOCK

REST = 0
"""Day of the observations that are in no partition of a day."""

MAX_PARTITIONS = 400
"""Maximum number of partitions; odd times of the API must not create any number of them."""

EXPIRED_SHARE = 0.75
"""Share of the logs of a partition that have to be expired before it is dropped, and the others are moved."""

RETRY_SECONDS = 60.0
"""Seconds in which no partition is created after a long transaction, such as a backup, has blocked that."""

# Every look-up of every process waits behind a lock on the table that waits itself.
SHORT_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"

ID_LENGTH, TIME_LENGTH = 24, 13

PARTITIONS = (
    "SELECT substr(c.relname, 18)::integer FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'late_observation'::regclass AND c.relname ~ '^late_observation_[0-9]+$' ORDER BY 1"
)

EXPIRED_SCOPES = "SELECT id FROM late_scope WHERE prune_before >= %s"

IS_EXPIRED = "o.scope IN (SELECT unnest(%(expired)s::integer[]))"

EXPIRED = f"SELECT count(*) FILTER (WHERE {IS_EXPIRED}), count(*) FROM {{partition}} o"  # noqa: S608 - constants

# An array rather than a join, so that the index is used and the last lock is held for milliseconds.
MOVE = f"""
    UPDATE late_observation o SET day = {REST} WHERE o.day = {{day}} AND o.scope = ANY(ARRAY(
        SELECT id FROM late_scope WHERE id NOT IN (SELECT unnest(%(expired)s::integer[]))
    ))
"""  # noqa: S608 - constants

# In one statement, so that every part of it sees the same rows.
FORGET = f"""
    WITH gone AS (
        SELECT o.scope, o.key, count(*) AS observations
        FROM {{partition}} o WHERE {IS_EXPIRED} GROUP BY o.scope, o.key
    ), settled AS (
        DELETE FROM late_pending p USING gone g WHERE p.scope = g.scope AND p.key = g.key
    )
    UPDATE late_scope s SET logs = s.logs - t.logs, pruned = s.pruned + t.observations
    FROM (SELECT scope, count(*) AS logs, sum(observations) AS observations FROM gone GROUP BY scope) t
    WHERE s.id = t.scope
"""  # noqa: S608 - constants


def key_day(key: str) -> int:
    """Return the day in a key since 1970, or REST if the key has no time."""
    try:
        if key[TIME_LENGTH : TIME_LENGTH + 1] == "-" and key[:TIME_LENGTH].isdecimal():
            return int(key[:TIME_LENGTH]) // DAY_MS
        if len(key) == ID_LENGTH and key.isascii():
            return max(REST, int(key[:8], 16) * 1000 // DAY_MS)  # an id may begin with a minus
    except ValueError:
        pass
    return REST


def observation_day(key: str, created: int | None) -> int:
    """Return the day of an observation, or REST if its key and its creation time disagree."""
    day = key_day(key)
    return day if created is not None and created // DAY_MS == day else REST


def lookup_days(keys: Iterable[str]) -> list[int]:
    """Return the days of the partitions in which keys can be."""
    return sorted({REST, *map(key_day, keys)})


class Partitions:
    """The days that have a partition."""

    def __init__(self) -> None:
        self._days: set[int] = set()
        self._blocked_at = -math.inf

    def load(self, connection: DeadlineConnection) -> None:
        self._days = {day for (day,) in connection.execute(PARTITIONS)}

    def place(self, day: int) -> int:
        """Return the day, or REST if it has no partition."""
        return day if day in self._days else REST

    def create(self, connection: DeadlineConnection, days: Iterable[int]) -> None:
        """Create missing partitions; if that fails, their observations are in the rest."""
        missing = sorted({*days} - self._days - {REST})[: max(0, MAX_PARTITIONS - len(self._days))]
        if not missing or time.monotonic() - self._blocked_at < RETRY_SECONDS:
            return
        try:
            for day in missing:
                self._create(connection, day)
                self._days.add(day)
        except psycopg.errors.LockNotAvailable:
            self._blocked_at = time.monotonic()

    @staticmethod
    def _create(connection: DeadlineConnection, day: int) -> None:
        # Another process may do the same, and the session may not know of its table yet.
        with suppress(psycopg.errors.DuplicateTable), connection.transaction():
            connection.execute(SETTINGS)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute(SHORT_LOCK_TIMEOUT)
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS late_observation_{day} PARTITION OF late_observation FOR VALUES IN ({day})"
            )

    def drop_expired(self, connection: DeadlineConnection) -> None:
        """Drop the partitions of which most logs have expired; those of workspaces that still need them are moved.

        Raises:
            psycopg.Error: The partition is in use by a long transaction, for example; nothing of it was changed.
        """
        self.load(connection)  # Other replicas have dropped days, too.
        for day in sorted(self._days):
            end, partition = (day + 1) * DAY_MS, f"late_observation_{day}"
            # The same feeds in each statement, whatever others expire or add meanwhile.
            scopes = [scope for (scope,) in connection.execute(EXPIRED_SCOPES, (end,))]
            if not scopes:
                break
            parameters = {"expired": scopes}
            expired, rows = connection.execute(EXPIRED.format(partition=partition), parameters).fetchone() or (0, 0)
            if expired < rows * EXPIRED_SHARE:
                continue
            with connection.transaction():
                connection.execute(SETTINGS)
                connection.execute(MOVE.format(day=day), parameters)
                connection.execute(FORGET.format(partition=partition), parameters)
                connection.execute(SHORT_LOCK_TIMEOUT)
                connection.execute(f"LOCK TABLE ONLY late_observation, ONLY {partition} IN ACCESS EXCLUSIVE MODE")
                connection.execute(MOVE.format(day=day), parameters)  # What another replica has stored meanwhile.
                connection.execute(f"DROP TABLE {partition}")
            self._days.discard(day)
