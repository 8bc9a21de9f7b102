"""What commands read of a state, which an exporter may have open."""

from __future__ import annotations

import pytest

from late_exporter.errors import ConfigError, StoreError, StoreMissing
from late_exporter.store import Store, open_store
from late_exporter.store.snapshot import Snapshot
from tests.support.store import NOW, SCOPE, commit, observation, stored_series


def test_a_snapshot_does_not_change(url: str, store: Store) -> None:
    """Later commits are neither visible to it nor blocked by it, also while its rows are read."""
    commit(store, *(observation(f"{number:03}") for number in range(300)))
    with Snapshot(url) as snapshot:
        before = snapshot.series_values()
        rows = snapshot.recorded_statuses(SCOPE)
        next(rows)
        assert len(commit(store, observation("z"), prune_before=NOW + 1).observations) == 1
        assert len([*rows]) == 299
        assert before == snapshot.series_values() != stored_series(store)
        assert snapshot.feed_state(SCOPE).log_count == 300
    with Snapshot(url) as snapshot:
        assert snapshot.feed_state(SCOPE).log_count == 0


def test_reading_creates_nothing(url: str) -> None:
    """A state that does not exist is an error."""
    for _ in range(2):
        with pytest.raises(StoreMissing, match="there is no state"):
            Snapshot(url)
    open_store(url).close()
    with Snapshot(url) as snapshot:
        assert (snapshot.scopes, snapshot.series_values()) == ([], {})


@pytest.mark.parametrize(("url", "error"), [("sqlite://", StoreError), ("mysql://localhost/late", ConfigError)])
def test_what_cannot_be_read_by_another_process(url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Snapshot(url)
