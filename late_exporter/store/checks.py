"""Check a state for corruption and inconsistencies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from late_exporter.store.snapshot import Snapshot


def inconsistencies(state: Snapshot) -> Iterator[str]:
    """Compare the counts of every feed with the rows that they count, and decode every series; yield the problems."""
    yield from state.damage()
    state.series_values()
    for scope in state.scopes:
        feed = state.feed_state(scope)
        stored_keys = [key for key, _ in groupby(state.recorded_statuses(scope), attrgetter("key"))]
        name = f"{scope.workspace}/{scope.feed}"
        if len(stored_keys) != feed.log_count:
            yield f"{name}: the log count is {feed.log_count:,}, but {len(stored_keys):,} logs are stored"
        if unknown := len(feed.pending_logs.keys() - {*stored_keys}):
            yield f"{name}: {unknown:,} pending logs are not stored as counted"
