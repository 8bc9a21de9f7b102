"""Mark a state that has lost commits."""

from __future__ import annotations

from typing import NoReturn

from late_exporter.errors import StoreRegressed
from late_exporter.store.postgres.database import LONG_DEADLINE_SECONDS, SETTINGS, Database, DeadlineConnection
from late_exporter.store.restored import OWN_COUNTERS

LOST = (
    "the server has lost commits that it had acknowledged, as after a failover to a standby that was behind;"
    " late-exporter ends, and reads the lost logs again when it is started"
)


def end_regressed(database: Database) -> NoReturn:
    """Mark the state as one that has lost commits, and raise StoreRegressed."""
    database.run(mark_restored, LONG_DEADLINE_SECONDS)
    raise StoreRegressed(f"{database.name}: {LOST}")


def mark_restored(connection: DeadlineConnection) -> None:
    """Mark every feed as restored: its series stay hidden until its logs are read again, by its owner at that time.

    All feeds, because those of a replica that is dead or paused have probably lost commits, too, and no one else knows.
    The exporter's own counters begin at 0 again, which Prometheus takes for a restart, because their last values are
    unknown.
    """
    with connection.transaction():
        connection.execute(SETTINGS)
        connection.execute("UPDATE late_scope SET restored = true")
        connection.execute("DELETE FROM late_series WHERE family = ANY(%s)", (OWN_COUNTERS,))
