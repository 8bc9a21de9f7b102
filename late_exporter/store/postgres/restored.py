"""Mark a state that has lost commits."""

from __future__ import annotations

from collections.abc import Iterable

from late_exporter.store.postgres.database import SETTINGS, DeadlineConnection
from late_exporter.store.restored import OWN_COUNTERS

WORKSPACES = "SELECT workspace FROM late_scope WHERE token = ANY(%(tokens)s)"


def mark_restored(connection: DeadlineConnection, tokens: Iterable[int]) -> None:
    """Mark the feeds with some fencing tokens as restored: their series stay hidden until their logs are read again.

    The exporter's own counters begin at 0 again, which Prometheus takes for a restart, because their last values are
    unknown. Other series have probably been served since, so that an initial zero would be a fall.
    """
    parameters = {"tokens": list(tokens), "families": OWN_COUNTERS}
    with connection.transaction():
        connection.execute(SETTINGS)
        connection.execute("UPDATE late_scope SET restored = true WHERE token = ANY(%(tokens)s)", parameters)
        connection.execute(f"UPDATE late_series SET served = true WHERE workspace IN ({WORKSPACES})", parameters)  # noqa: S608 - a constant
        connection.execute(
            f"DELETE FROM late_series WHERE family = ANY(%(families)s) AND workspace IN ({WORKSPACES})",  # noqa: S608 - a constant
            parameters,
        )
