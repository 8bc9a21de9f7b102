"""The state in a SQLite file: its size, its settings, damage and backups."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import StoreError, StoreMissing
from late_exporter.store import Store, database_at
from tests.e2e.traffic import in_thread
from tests.support.exporter import open_store
from tests.support.store import NOW, SCOPE, commit, execute, observation, problems, read_scopes

REMEDY = "restore a backup, or name another file"
BYTES_PER_LOG = 70


def open_file(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes mean a relative path, four an absolute one; folders are created."""
    monkeypatch.chdir(tmp_path)
    for url, path in (
        ("sqlite:///some/where/a.db", "some/where/a.db"),
        (f"sqlite:///{tmp_path}/else/b.db", "else/b.db"),
    ):
        open_store(url).close()
        assert (tmp_path / path).is_file()


def test_commits_are_durable(path: Path) -> None:
    """Also when the power fails."""
    with closing(open_file(path)) as store, store.database.reading() as connection:
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        assert pragmas == [2, "wal"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("key", ["{0:08x}{1:016x}", "{2:013d}-{1:012x}.0"])
def test_a_log_takes_little_space(path: Path, key: str, order: int) -> None:
    """With the keys of both generations of the API, read from old to new or from new to old."""
    count = 20_000
    times = [NOW + number * 1_000 for number in range(count)]
    draw = random.Random(5)
    logs = [observation(key.format(at // 1000, draw.getrandbits(48), at), created=at) for at in times]
    with closing(open_file(path)) as store:
        for start in range(0, count, 2000):
            commit(store, *logs[::order][start : start + 2000])
    assert path.stat().st_size < count * BYTES_PER_LOG


# What is no state


def other_program(path: Path) -> None:
    """Create the database of another program."""
    execute(f"sqlite:///{path}", "CREATE TABLE bookmark (url TEXT)", "INSERT INTO bookmark VALUES ('https://x.test')")


STRANGE = f": file is not a database; {REMEDY}"


@pytest.mark.parametrize(
    ("expected", "prepare"),
    [
        (STRANGE, lambda path: path.write_text("api_key: secret\n" * 100)),
        (STRANGE, lambda path: path.write_bytes(b"SQLite format 3")),
        (STRANGE, lambda path: path.write_bytes(b"SQLite format 3\0" + random.Random(3).randbytes(8000))),
        (" is the database of another program; it was not changed", other_program),
    ],
)
def test_foreign_files_are_not_changed(path: Path, expected: str, prepare: Callable[[Path], object]) -> None:
    """Each attempt names the file, and so does each reading command; nor are they backed up."""
    prepare(path)
    before = path.read_bytes()
    for use in (open_store, read_scopes, open_store):
        with pytest.raises(StoreError) as caught:
            use(f"sqlite:///{path}")
        assert str(caught.value) == f"{path}{expected}"
    with pytest.raises(StoreError):
        database_at(f"sqlite:///{path}").backup(path.with_name("copy.db"))
    assert before == path.read_bytes()
    assert {file.name for file in path.parent.iterdir()} == {"late.db", "late.db.lock"}


@pytest.mark.parametrize("size", [4096, -4096, 0.5])
def test_a_truncated_state_is_refused(path: Path, size: float) -> None:
    """A state that has lost its end is named and not changed; a negative size is what is cut off."""
    with closing(open_file(path)) as store:
        commit(store, *(observation(f"{number:024}") for number in range(3000)))
    content = path.read_bytes()
    content = content[: int(len(content) * size) if 0 < size < 1 else int(size)]
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"^{path}"), closing(open_file(path)) as store:
        _ = store.feed_state(SCOPE), store.accounting(SCOPE)
    assert content == path.read_bytes()


# Backups


def test_a_backup_during_commits_is_consistent(path: Path, tmp_path: Path) -> None:
    """It is one file, from which an exporter can continue."""
    target = tmp_path / "copy.db"

    def write(stop: threading.Event) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            commit(store, *(observation(f"{number}-{key}") for key in range(50)))

    with closing(open_file(path)) as store:
        commit(store, observation("first"))
        with in_thread(write):
            for _ in range(5):
                target.unlink(missing_ok=True)
                assert database_at(f"sqlite:///{path}").backup(target) == target.stat().st_size
                assert problems(f"sqlite:///{target}") == []
                assert not target.with_name("copy.db-wal").exists()
    with closing(open_file(target)) as copy:
        assert len(commit(copy, observation("first"), observation("last")).observations) == 1


def test_a_backup_changes_no_other_file(path: Path, tmp_path: Path) -> None:
    """Neither one that exists nor what a symbolic link names; one that fails leaves none."""
    target, link = tmp_path / "copy.db", tmp_path / "link.db"
    target.write_text("precious")
    link.symlink_to(tmp_path / "victim.db")
    open_file(path).close()
    for name in (target, link):
        with pytest.raises(StoreError, match=f"^{name}: the file exists already and was not changed$"):
            database_at(f"sqlite:///{path}").backup(name)
    assert target.read_text() == "precious"
    with pytest.raises(StoreMissing, match="there is no state"):
        database_at(f"sqlite:///{tmp_path}/nothing.db").backup(tmp_path / "new.db")
    assert {file.name for file in tmp_path.iterdir()} == {"late.db", "late.db.lock", "copy.db", "link.db"}
