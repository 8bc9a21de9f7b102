"""What the tables of the SQLite state hold, as values; for whoever has a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection

import msgspec

from late_exporter.metrics.aggregation import decode_value
from late_exporter.model import Coverage, FeedAccounting, FeedState, Labels, LogEntry, PendingLog, Series, SeriesValue
from late_exporter.store.matching import match_logs, time_prefix

__all__ = ["accounting", "feed_state", "match_page", "pending_logs", "series_values", "stored_statuses"]

LOOKUP_KEYS = 100

# One text for however many keys: each other one would be compiled and kept, tens of kilobytes apiece.
LOOKUP = f"SELECT key, status FROM sighting WHERE scope = ? AND key IN ({','.join('?' * LOOKUP_KEYS)})"  # noqa: S608 - marks


# A log that was recognized by its detail keeps it. The newest are recognized first.
FINGERPRINTS_AGREE = (
    "SELECT EXISTS (SELECT 1 FROM sighting WHERE scope = ? AND detail IS NOT NULL AND status <> 'pending'"
    " AND instr(key, '=') ORDER BY key DESC)"
)


def series_values(connection: Connection) -> Mapping[Series, SeriesValue]:
    """The total of every series."""
    rows = connection.execute("SELECT family, labels, value, created FROM series")
    return {
        (family, msgspec.json.decode(labels, type=Labels)): SeriesValue(decode_value(value), created)
        for family, labels, value, created in rows
    }


def feed_state(connection: Connection, scope: int) -> FeedState:
    """What is kept of one feed."""
    coverage, logs = connection.execute("SELECT coverage, logs FROM scope WHERE id = ?", (scope,)).fetchone()
    return FeedState(
        coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
        pending_logs=pending_logs(connection, scope),
        log_count=logs,
    )


def pending_logs(connection: Connection, scope: int) -> dict[str, PendingLog]:
    """The logs that are pending, by key."""
    rows = connection.execute(
        "SELECT key, created, platform, action, post_id FROM pending WHERE scope = ? ORDER BY created, key", (scope,)
    )
    return {row[0]: PendingLog(*row) for row in rows}


def stored_statuses(connection: Connection, scope: int, keys: Sequence[str]) -> dict[str, set[str]]:
    """The statuses in which some logs were counted, by key."""
    statuses: dict[str, set[str]] = {}
    for start in range(0, len(keys), LOOKUP_KEYS):
        some = keys[start : start + LOOKUP_KEYS]
        found = connection.execute(LOOKUP, (scope, *some, *[None] * (LOOKUP_KEYS - len(some))))
        for key, status in found:
            statuses.setdefault(key, set()).add(status)
    return statuses


def match_page(
    connection: Connection, scope: int, entries: Sequence[LogEntry], *, has_pending: bool
) -> dict[str, LogEntry]:
    """Which logs, by the keys under which they are held, are shown under other ones now."""
    known = stored_statuses(connection, scope, [entry.key for entry in entries])
    strangers = [entry.key for entry in entries if entry.status not in known.get(entry.key, ())]
    times = {time for key in strangers if (time := time_prefix(key))}
    held: dict[str, dict[str, str | None]] = {key: dict.fromkeys(found) for key, found in known.items()}
    for time in times:
        found = connection.execute(
            "SELECT key, status, detail FROM sighting WHERE scope = ? AND key >= ? AND key < ?",
            (scope, time, f"{time}~"),
        )
        for key, status, detail in found:
            held.setdefault(key, {})[status] = detail
    if len(held) == len(known):
        return {}
    (told,) = connection.execute(FINGERPRINTS_AGREE, (scope,)).fetchone()
    return match_logs(entries, held, has_pending=has_pending, fingerprints_agree=bool(told))


def accounting(connection: Connection, scope: int) -> FeedAccounting:
    """How many sightings of a feed were counted, are held and were forgotten."""
    counted, forgotten = connection.execute("SELECT counted, forgotten FROM scope WHERE id = ?", (scope,)).fetchone()
    (held,) = connection.execute("SELECT count(*) FROM sighting WHERE scope = ?", (scope,)).fetchone()
    return FeedAccounting(
        observation_count=counted, stored_count=held, pruned_count=forgotten, series_values=series_values(connection)
    )
