"""Find the logs that have expired, at a cost that depends on their number only."""

from __future__ import annotations

from collections.abc import Collection
from sqlite3 import Connection

MAX_LOGS = 10_000
"""Number of logs from which one commit deletes no more."""

ROWS = 200
"""Rows that are read at a time; one commit reads as many in vain, in each of the ways to find expired logs."""


def expired_logs(connection: Connection, scope_id: int, before: int, cursors: dict[int, str]) -> Collection[str]:
    """Return the keys of logs created before a time.

    Keys begin with a time, so the oldest logs have the smallest keys. A key may disagree with the time of its log; such
    logs are found by a walk over the table, some rows per call.

    Args:
        connection: Connection to the state.
        scope_id: Id of the feed.
        before: Time in milliseconds.
        cursors: Place of the walk by feed; updated.
    """
    expired, last_key = _expired_logs(connection, scope_id, "", before)
    if last_key and len(expired) < MAX_LOGS:
        after = max(last_key, cursors.get(scope_id, ""))
        walked, cursors[scope_id] = _expired_logs(connection, scope_id, after, before)
        expired |= walked
    return expired


def _expired_logs(connection: Connection, scope_id: int, after: str, before: int) -> tuple[set[str], str]:
    """Read on after a key while most logs have expired; return their keys and the last key read, empty at the end."""
    expired = set[str]()
    while True:
        rows = connection.execute(
            "SELECT key, created FROM observation WHERE scope = ? AND key > ? ORDER BY key LIMIT ?",
            (scope_id, after, ROWS),
        ).fetchall()
        found = {key for key, created in rows if created is not None and created < before}
        expired |= found
        if len(rows) < ROWS:
            return expired, ""
        after = rows[-1][0]
        if len(found) < ROWS / 2 or len(expired) >= MAX_LOGS:
            return expired, after
