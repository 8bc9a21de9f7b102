"""The creation time of the newest counted log, from which on logs count after a switch of the API generation."""

from __future__ import annotations

from contextlib import closing

from late_exporter.model import Batch, LogEntry, Observation, Scope
from late_exporter.store import open_store
from tests.support.store import commit_batch

SCOPE, OTHER = Scope("acme", "publishing"), Scope("acme", "connections")


def test_the_newest_counted_log_up_to_a_time(url: str) -> None:
    """Rejected logs, those without a time and those of other feeds are left out."""
    logs = [(5, "pending"), (7, "success"), (8, "rejected"), (None, "success"), (20, "success")]
    with closing(open_store(url)) as store:
        assert store.newest_time(SCOPE, until=10) is None
        for scope, counted in ((SCOPE, logs), (OTHER, [(9, "success")])):
            entries = [LogEntry(key=f"{created}", created=created, status=status) for created, status in counted]
            batch = Batch(committed_at=0.0, observations=[Observation(entry, ()) for entry in entries])
            commit_batch(store, scope, batch)
        assert [7, 20, None] == [store.newest_time(SCOPE, until=until) for until in (10, 30, 4)]
