"""Mark a state that is older than when it was last used."""

from __future__ import annotations

from sqlite3 import Connection

from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.names import ENTRIES_REJECTED

OWN_COUNTERS = [
    name
    for name, family in CATALOGUE.items()
    if name.startswith("late_exporter_") and family.kind != "gauge" and name != ENTRIES_REJECTED
]
"""Counters that reading logs again does not restore, except rejected logs, which are part of the accounting."""


def mark_restored(connection: Connection, last_commit: int) -> None:
    """Mark every feed as restored from an older copy than the one that had the last commit.

    The exporter's own counters begin at 0 again, which Prometheus takes for a restart, because their last values are
    unknown.
    """
    connection.execute("UPDATE scope SET restored = 1, commits = ?", (last_commit,))
    connection.executemany("DELETE FROM series WHERE family = ?", [(name,) for name in OWN_COUNTERS])
