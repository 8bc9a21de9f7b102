"""What the tables of the SQLite state hold, as values; for whoever has a connection."""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection

import msgspec

from late_exporter.ledger import decode
from late_exporter.model import Coverage, FeedState, Labels, Pending, Series, Total

__all__ = ["feed", "pendings", "totals"]


def totals(connection: Connection) -> Mapping[Series, Total]:
    """The total of every series."""
    rows = connection.execute("SELECT family, labels, value, created FROM series")
    return {
        (family, msgspec.json.decode(labels, type=Labels)): Total(decode(value), created)
        for family, labels, value, created in rows
    }


def feed(connection: Connection, scope: int) -> FeedState:
    """What is kept of one feed."""
    coverage, logs = connection.execute("SELECT coverage, logs FROM scope WHERE id = ?", (scope,)).fetchone()
    return FeedState(
        coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
        pendings=pendings(connection, scope),
        logs=logs,
    )


def pendings(connection: Connection, scope: int) -> dict[str, Pending]:
    """The logs that are pending, by key."""
    rows = connection.execute(
        "SELECT key, created, platform, action, post_id FROM pending WHERE scope = ? ORDER BY created, key", (scope,)
    )
    return {row[0]: Pending(*row) for row in rows}
