"""A state that does not agree with itself, or is damaged, is reported."""

from __future__ import annotations

from contextlib import closing

import pytest

from late_exporter.store import open_store
from tests.support.store import OTHER, SCOPE, commit, execute, observation, problems


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
        ("DELETE FROM late_log WHERE key = 'log001'", "acme/publishing: the log count is 151, but 150 logs are stored"),
        ("UPDATE late_feed SET logs = logs + 1", "umbrella/publishing: the log count is 152, but 151 logs are stored"),
        ("DELETE FROM late_log WHERE key = 'p'", "acme/publishing: 1 pending logs are not stored as counted"),
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
