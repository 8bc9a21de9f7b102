"""A state that is older than when it was last used is noticed."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.model import Batch, Coverage, Gap, ListPosition, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import Store, open_store
from late_exporter.store.admin import SqliteAdmin
from tests.support.store import commit_batch, copy_state

PUBLISHING, CONNECTIONS = Scope("acme", "publishing"), Scope("acme", "connections")
LOGS = ("late_publishing_logs_total", ("acme", "tiktok", "publish", "success"))
POLLS = ("late_exporter_polls_total", ("acme", "publishing", "success"))
REJECTED = ("late_exporter_entries_rejected_total", ("acme", "publishing", "no_id"))
READ = Coverage(retention_floor=0, complete_since=0, is_synced=True)
IN_GAP = Coverage(retention_floor=0, complete_since=0, is_synced=True, gaps=(Gap(ListPosition(2, "b"), 1, 0, 0),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the state."""
    return tmp_path / "state.db"


def open_path(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


def commit(store: Store, key: str, scope: Scope = PUBLISHING, coverage: Coverage | None = READ) -> None:
    """Count a log and a poll."""
    log = Observation(LogEntry(key=key, status="success"), (IncCounter(*LOGS),))
    commit_batch(
        store,
        scope,
        Batch(
            committed_at=1.0,
            observations=[log],
            increments=[IncCounter(*POLLS), IncCounter(*REJECTED)],
            coverage=coverage,
        ),
    )


def restored_feeds(store: Store) -> list[str]:
    return [scope.feed for scope in (PUBLISHING, CONNECTIONS) if store.feed_state(scope).is_restored]


def restore(path: Path, copy: Path) -> None:
    """Replace a state by a copy, as the documentation says."""
    path.unlink()
    shutil.copy(copy, path)


@pytest.fixture
def copy(path: Path) -> Path:
    """Create a state with a log of each feed, copy it, count further logs, and restore the copy."""
    copy = path.with_name("copy.db")
    with closing(open_path(path)) as store:
        commit(store, "a")
        commit(store, "a", CONNECTIONS)
        SqliteAdmin(path).backup(copy)
        commit(store, "b")
    restore(path, copy)
    return copy


def test_an_older_copy_is_noticed_until_each_feed_is_read(path: Path, copy: Path) -> None:
    """A feed is restored until a commit without gaps, also over restarts; then the state is as good as any."""
    for _ in range(2):
        with closing(open_path(path)) as store:
            assert ["publishing", "connections"] == restored_feeds(store)
            commit(store, "x", coverage=None)
            commit(store, "b", coverage=IN_GAP)
            assert ["publishing", "connections"] == restored_feeds(store)
    with closing(open_path(path)) as store:
        commit(store, "c")
        assert ["connections"] == restored_feeds(store)
    with closing(open_path(path)) as store:
        assert ["connections"] == restored_feeds(store)
        commit(store, "c", CONNECTIONS)
    restore(path, copy)
    with closing(open_path(path)) as store:
        assert ["publishing", "connections"] == restored_feeds(store)


def test_own_counters_begin_at_zero(path: Path, copy: Path) -> None:
    """What reading cannot restore restarts like the counters of any program; logs and rejected logs do not."""
    assert copy.exists()
    with closing(open_path(path)) as store:
        values = store.series_values()
        assert (2, 2, False) == (values[LOGS].value, values[REJECTED].value, POLLS in values)
        commit(store, "b")
        assert 1 == store.series_values()[POLLS].value


def test_a_state_that_was_not_restored(path: Path) -> None:
    """Neither a restart nor workspaces that are copied into a state are taken for an older copy."""
    for _ in range(2):
        with closing(open_path(path)) as store:
            commit(store, "a")
            commit(store, "a", Scope("beta", "publishing"))
            assert [] == restored_feeds(store)
    copy_state(f"sqlite:///{path}", f"sqlite:///{path}", "beta", "gamma")
    with closing(open_path(path)) as store:
        assert [] == restored_feeds(store)
        assert not store.feed_state(Scope("gamma", "publishing")).is_restored


def test_an_older_copy_is_noticed(path: Path) -> None:
    """A copy keeps the number of the last commit, so that it is noticed where its source was used afterwards."""
    with closing(open_path(path)) as store:
        commit(store, "a")
    copy_state(f"sqlite:///{path}", f"sqlite:///{path}.copy")
    with closing(open_path(path)) as store:
        commit(store, "b")
    Path(f"{path}.copy").replace(path)
    with closing(open_path(path)) as store:
        assert ["publishing"] == restored_feeds(store)


def test_without_the_lock_file_nothing_is_noticed(path: Path, copy: Path) -> None:
    """The lock file is the only record, as on another machine."""
    assert copy.exists()
    path.with_name("state.db.lock").unlink()
    with closing(open_path(path)) as store:
        assert [] == restored_feeds(store)
        commit(store, "b")
        assert [] == restored_feeds(store)
