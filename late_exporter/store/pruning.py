"""Find the logs that have expired, at a cost that depends on their number only."""

from __future__ import annotations

from sqlite3 import Connection

from late_exporter.model import MINUTE_MS

MAX_LOGS = 10_000
"""Maximum number of logs that one commit deletes."""

EXTRA_ROWS = 200
"""Maximum number of rows that one commit reads in vain, for each of the two ways to find expired logs."""


def expired_logs(connection: Connection, scope_id: int, before: int, cursors: dict[int, str]) -> dict[str, int]:
    """Return the minutes of logs created before the minute of a time, by key; those with the smallest keys first.

    Keys begin with a time, so the oldest logs have the smallest keys. A key may disagree with the time of its log; such
    logs are found by a walk over the table, some rows per call.

    Args:
        connection: Connection to the state.
        scope_id: Id of the feed.
        before: Time in milliseconds.
        cursors: Place of the walk by feed; updated.
    """
    minute = before // MINUTE_MS
    (expired_count,) = connection.execute(
        "SELECT coalesce(sum(logs), 0) FROM logs_per_minute WHERE scope = ? AND minute < ?", (scope_id, minute)
    ).fetchone()
    if expired_count <= 0:
        return {}
    limit = min(expired_count, MAX_LOGS)
    minutes, last_key = _expired_logs(connection, scope_id, "", limit + EXTRA_ROWS, minute)
    if last_key and len(minutes) < limit:
        after = max(last_key, cursors.get(scope_id, ""))
        walked, cursors[scope_id] = _expired_logs(
            connection, scope_id, after, limit - len(minutes) + EXTRA_ROWS, minute
        )
        minutes |= walked
    return minutes


def _expired_logs(
    connection: Connection, scope_id: int, after: str, row_count: int, minute: int
) -> tuple[dict[str, int], str]:
    """Return the minutes of the expired logs among some rows after a key, and the last key; empty at the end."""
    rows = connection.execute(
        "SELECT key, created FROM observation WHERE scope = ? AND key > ? ORDER BY key LIMIT ?",
        (scope_id, after, row_count),
    ).fetchall()
    end = minute * MINUTE_MS
    minutes = {key: created // MINUTE_MS for key, created in rows if created is not None and created < end}
    return minutes, rows[-1][0] if len(rows) == row_count else ""
