"""Deletion marks: how many stored logs of each minute the API does not show any more.

A marked log stays known, so that it never counts again. Marks are numbers, not keys: they are recalculated whenever the
minute is read again, so a wrong one lasts until then, and only causes requests. A mark is negative if the API shows
several logs that are stored as one, because they have no ids and differ in their status only.
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection

from late_exporter.model import MINUTE_MS, ListedMinutes
from late_exporter.store.batches import expiring_minutes


def mark_deleted(connection: Connection, scope_id: int, ranges: Iterable[ListedMinutes]) -> bool:
    """Mark the logs of fully read minutes that the API does not show; return whether a mark has changed."""
    has_changed = False
    for listed in ranges:
        rows = connection.execute(
            "SELECT minute, logs, deleted FROM logs_per_minute WHERE scope = ? AND minute BETWEEN ? AND ?",
            (scope_id, listed.first, listed.last),
        ).fetchall()
        marks = [(logs - listed.counts.get(minute, 0), minute, deleted) for minute, logs, deleted in rows]
        changes = [(count, scope_id, minute) for count, minute, deleted in marks if count != deleted]
        if changes:
            has_changed = True
            connection.executemany("UPDATE logs_per_minute SET deleted = ? WHERE scope = ? AND minute = ?", changes)
            connection.execute(
                "UPDATE scope SET deleted = deleted + ? WHERE id = ?",
                (sum(count - deleted for count, _, deleted in marks), scope_id),
            )
    return has_changed


def log_counts(connection: Connection, scope_id: int, since: int) -> tuple[int, int, int]:
    """Return the number of unmarked logs created since a time, of those of them that expire now, and of marked ones."""
    earliest, latest = expiring_minutes(since)
    counts: tuple[int, int, int] = connection.execute(
        "SELECT scope.logs - scope.deleted - expired.listed,"
        " (SELECT coalesce(sum(logs - deleted), 0) FROM logs_per_minute WHERE scope = ?1 AND minute BETWEEN ?2 AND ?3),"
        " scope.deleted - expired.deleted"
        " FROM scope, (SELECT coalesce(sum(logs - deleted), 0) AS listed, coalesce(sum(deleted), 0) AS deleted"
        " FROM logs_per_minute WHERE scope = ?1 AND minute < ?2) AS expired WHERE scope.id = ?1",
        (scope_id, earliest, latest),
    ).fetchone()
    return counts


def count_logs(connection: Connection, scope_id: int, first: int, last: int) -> int:
    """Return the number of logs created from ``first`` to ``last``, in milliseconds, that are not marked as deleted.

    Keys must begin with the creation time. The marks of an incomplete last minute are assumed to be within the range,
    those of an incomplete first one to be outside.
    """
    end = last + 1
    first_minute, end_minute = -(-first // MINUTE_MS), end // MINUTE_MS
    if first_minute > end_minute:
        return _count_keys(connection, scope_id, first, end)
    (count,) = connection.execute(
        "SELECT coalesce(sum(logs - deleted), 0) FROM logs_per_minute WHERE scope = ? AND minute >= ? AND minute < ?",
        (scope_id, first_minute, end_minute),
    ).fetchone()
    count += _count_keys(connection, scope_id, first, first_minute * MINUTE_MS)
    if end_minute * MINUTE_MS < end:
        (deleted,) = connection.execute(
            "SELECT coalesce(sum(deleted), 0) FROM logs_per_minute WHERE scope = ? AND minute = ?",
            (scope_id, end_minute),
        ).fetchone()
        count += _count_keys(connection, scope_id, end_minute * MINUTE_MS, end) - deleted
    return int(count)


def _count_keys(connection: Connection, scope_id: int, first: int, end: int) -> int:
    (count,) = connection.execute(
        "SELECT count(DISTINCT key) FROM observation WHERE scope = ? AND key >= ? AND key < ?",
        (scope_id, f"{first:013d}", f"{end:013d}"),
    ).fetchone()
    return int(count)
