"""Lock, permissions and identity of the files of a SQLite state."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError
from late_exporter.store import database_at
from tests.store.test_sqlite import open_file
from tests.support.store import commit, observation, stored_series


def open_error(path: Path) -> str:
    """Return the error of opening a file, without its folder."""
    with pytest.raises(StoreError) as caught:
        open_file(path)
    return str(caught.value).replace(str(path.parent), "")


def test_a_file_in_use_is_refused_by_any_name(path: Path) -> None:
    """Also by a symbolic link to it; a removed state whose lock file is left is a new one."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    words = "is in use by another late-exporter; every process needs a state of its own"
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        assert open_error(path) == f"/late.db {words}"
        assert open_error(link) == f"/link.db {words}"
        assert database_at(f"sqlite:///{link}").is_in_use()
    assert not database_at(f"sqlite:///{path}").is_in_use()
    with closing(open_file(link)) as store:
        assert len(commit(store, observation("a"), observation("b")).observations) == 1
    path.unlink()
    with closing(open_file(path)) as store:
        assert stored_series(store) == {}


@pytest.mark.parametrize("exists", [True, False])
def test_a_lock_file_is_no_symbolic_link(path: Path, *, exists: bool) -> None:
    """In a folder that others can write, a link could have any file created or locked."""
    victim, lock_path = path.with_name("victim"), path.with_name("late.db.lock")
    if exists:
        victim.write_text("precious")
    lock_path.symlink_to(victim)
    assert open_error(path) == "/late.db: the state cannot be used: Too many levels of symbolic links: /late.db.lock"
    assert exists == victim.exists()


@pytest.mark.parametrize("create", [Path.mkdir, os.mkfifo])
def test_only_a_regular_file_is_a_state(path: Path, create: Callable[[Path], object]) -> None:
    """Anything else is refused and not replaced, also by the name of a symbolic link."""
    create(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    before = path.stat()
    for name in (path, link):
        expected = f"/{name.name} is not a regular file; name a file, or use sqlite:// for a state in memory"
        assert expected == open_error(name)
    assert before.st_ino == path.stat().st_ino


def test_a_file_that_cannot_be_created(path: Path) -> None:
    """The folder is named, and nothing is changed."""
    path.write_text("a file")
    with pytest.raises(StoreError, match=f"^{path}/x.db: the state cannot be used: File exists: {path}$"):
        open_file(path / "x.db")
    assert path.read_text() == "a file"


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_what_is_left_of_a_state_is_not_replaced(path: Path, damage: Callable[[Path], object]) -> None:
    """A database that is empty or gone, but has its write-ahead log, is refused until the user follows the advice."""
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        log = path.with_name("late.db-wal").read_bytes()
    damage(path)
    path.with_name("late.db-wal").write_bytes(log)
    for _ in range(2):
        assert open_error(path) == (
            "/late.db is missing or empty, but an earlier run left late.db-wal; it was not changed: restore a backup,"
            " or remove late.db and late.db-wal to begin a new state"
        )
    for name in ("late.db", "late.db-wal"):
        path.with_name(name).unlink(missing_ok=True)
    with closing(open_file(path)) as store:
        assert stored_series(store) == {}


@pytest.mark.parametrize(
    ("happening", "words"),
    [
        (Path.unlink, "the state file was removed: No such file or directory; restart to create a new one"),
        (
            lambda path: (path.rename(path.with_suffix(".old")), path.touch()),
            "the state was replaced by another file; restart to use that one",
        ),
    ],
)
def test_nothing_is_counted_in_a_file_that_is_gone(path: Path, happening: Callable[[Path], object], words: str) -> None:
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        happening(path)
        with pytest.raises(StoreError) as caught:
            commit(store, observation("b"))
        assert str(caught.value) == f"{path}: {words}"
