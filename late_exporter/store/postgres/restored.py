"""Mark a state that has lost commits."""

from __future__ import annotations

from late_exporter.store.postgres.database import SETTINGS, DeadlineConnection
from late_exporter.store.restored import OWN_COUNTERS

WORKSPACES = "SELECT workspace FROM late_scope WHERE token = %(token)s"


def mark_restored(connection: DeadlineConnection, token: int) -> None:
    """Mark the feeds with a fencing token as restored: their series stay hidden until their logs are read again.

    The exporter's own counters begin at 0 again, which Prometheus takes for a restart, because their last values are
    unknown. Other series have probably been served since, so that an initial zero would be a fall.
    """
    parameters = {"token": token, "families": OWN_COUNTERS}
    with connection.transaction():
        connection.execute(SETTINGS)
        connection.execute("UPDATE late_scope SET restored = true WHERE token = %(token)s", parameters)
        connection.execute(f"UPDATE late_series SET served = true WHERE workspace IN ({WORKSPACES})", parameters)  # noqa: S608 - a constant
        connection.execute(
            f"DELETE FROM late_series WHERE family = ANY(%(families)s) AND workspace IN ({WORKSPACES})",  # noqa: S608 - a constant
            parameters,
        )
