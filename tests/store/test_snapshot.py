"""What commands read of a state, which an exporter may have open, and what they find wrong with it."""

from __future__ import annotations

from contextlib import closing

import pytest

from late_exporter.store import Store
from late_exporter.store.snapshot import open_snapshot
from tests.support.exporter import open_store
from tests.support.store import NOW, OTHER, SCOPE, commit, execute, observation, problems, stored_series


def test_a_snapshot_does_not_change(url: str, store: Store) -> None:
    """Later commits are neither visible to it nor blocked by it."""
    keys = [f"{number:03}" for number in range(300)]
    commit(store, *map(observation, keys))
    with open_snapshot(url) as snapshot:
        before = snapshot.series_values()
        assert len(commit(store, observation("z"), prune_before=NOW + 1).observations) == 1
        assert before == snapshot.series_values() != stored_series(store)
        assert (snapshot.feed_state(SCOPE).log_count, len(snapshot.lookup(SCOPE, [*keys, "z"]))) == (300, 300)
    with open_snapshot(url) as snapshot:
        assert snapshot.feed_state(SCOPE).log_count == 0


# Inconsistencies


@pytest.fixture
def state(url: str) -> str:
    """Return the URL of a state with logs of two workspaces."""
    with closing(open_store(url)) as store:
        for scope in (SCOPE, OTHER):
            logs = [observation(f"log{number:03}") for number in range(150)]
            commit(store, *logs, observation("p", "pending"), scope=scope)
    return url


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "DELETE FROM late_log WHERE key = 'log001'",
            "acme/publishing: the log count is 151, but the state stores 150 logs",
        ),
        (
            "DELETE FROM late_log WHERE key = 'p'",
            "acme/publishing: 1 pending log not stored as counted",
        ),
    ],
)
def test_changes_that_bypass_the_store_are_reported(state: str, statement: str, problem: str) -> None:
    execute(state, statement)
    assert problem in problems(state)


def test_changed_bytes_of_a_file_are_reported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of a key, of a page header, and of any page."""
    path = tmp_path_factory.mktemp("state") / "late.db"
    url = f"sqlite:///{path}"
    with closing(open_store(url)) as store:
        commit(store, *(observation(f"log{number:06}") for number in range(3000)))
    execute(url, "PRAGMA journal_mode = DELETE")
    sound = path.read_bytes()
    for position, change in (
        (sound.index(b"log001000success") + 5, b"\x04"),
        (sound.index(b"log001000success") // 4096 * 4096 + 4, b"\x04"),
        (len(sound) // 2, b"\xff" * 6000),
    ):
        path.write_bytes(sound[:position] + change + sound[position + len(change) :])
        assert problems(url)
    path.write_bytes(sound)
    assert problems(url) == []


IMPOSSIBLE = (
    "UPDATE late_workspace SET name = x'ff' WHERE id = 1",
    "UPDATE late_log SET created = 'x'",
    "UPDATE late_feed SET coverage = x'ff'",
    "UPDATE late_pending SET created = 'x'",
    "UPDATE late_series SET labels = replace(labels, '\"acme\"', '7')",
    "UPDATE late_series SET value = x'ff'",
)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_a_snapshot_with_an_impossible_value_is_an_error(state: str, change: str) -> None:
    """It names the file and the remedy."""
    execute(state, change)
    (problem,) = problems(state)
    assert problem.startswith(state.removeprefix("sqlite:///"))
    assert problem.endswith("; restore a backup, or name another file")
