"""A state is used by one process, and what is left of a damaged one is noticed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.model import Batch, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import Store, open_store
from late_exporter.store.lockfile import StateLock
from late_exporter.store.maintenance import open_admin, open_snapshot
from tests.support.store import commit_batch

SCOPE = Scope("acme", "publishing")
LOGS = ("late_publishing_logs_total", ("acme",))

HOLDER = """
import sys
from late_exporter.model import Batch, FeedCommit, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import open_store

store = open_store(f"sqlite:///{sys.argv[1]}")
for key in sys.stdin:
    entry = LogEntry(key=key.strip(), status="success")
    observation = Observation(entry, (IncCounter("late_publishing_logs_total", ("acme",)),))
    batch = Batch(committed_at=1.0, observations=[observation])
    assert store.commit_all([FeedCommit(Scope("acme", "publishing"), batch)])[0].observations
    print("committed", flush=True)
"""
"""Program that opens a state and commits a log for each line of its standard input."""


def is_in_use(url: str) -> bool:
    """Return whether another process has the state open."""
    return open_admin(url).is_in_use()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the state."""
    return tmp_path / "state.db"


def open_path(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


def commit(store: Store, key: str) -> None:
    """Count a log."""
    observation = Observation(LogEntry(key=key, status="success"), (IncCounter(*LOGS),))
    commit_batch(store, SCOPE, Batch(committed_at=1.0, observations=[observation]))


class Holder:
    """Another process that has a state open."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def commit(self, key: str) -> None:
        """Count a log in the other process, and wait until it is durable."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{key}\n")
        self.process.stdin.flush()
        assert "committed\n" == self.process.stdout.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)


@contextmanager
def hold(path: Path) -> Iterator[Holder]:
    """Run a process that has the state open and has committed a log."""
    holder = Holder(path)
    try:
        holder.commit("a")
        yield holder
    finally:
        holder.kill()


def test_a_removed_lock_file_lets_no_second_process_in(path: Path) -> None:
    """The second process is refused, and the first one counts on and creates its lock file again."""
    lock_path = path.with_name("state.db.lock")
    with hold(path) as holder:
        assert is_in_use(f"sqlite:///{path}")
        for key in ("b", "c"):
            lock_path.unlink()
            for _ in range(2):
                with pytest.raises(StoreInUse, match=f"^{path} is in use by another late-exporter"):
                    open_path(path)
            assert is_in_use(f"sqlite:///{path}")
            holder.commit(key)
            assert is_in_use(f"sqlite:///{path}")
        assert 3 == int(lock_path.read_text())
    with closing(open_path(path)) as store:
        assert 3 == store.series_values()[LOGS].value


def test_a_file_system_without_locks_is_no_other_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that cannot be had for another reason is reported with that reason, and nothing is left behind."""

    def refuse(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match=f"^{path}: the state cannot be locked: No locks available$") as caught:
        open_path(path)
    assert not isinstance(caught.value, StoreInUse)


def test_a_closed_lock_touches_no_file(path: Path) -> None:
    """After the lock is closed, no commit is recorded, and no lock file created again."""
    lock = StateLock(path)
    lock.record_commit(7)
    lock.close()
    lock_path = path.with_name("state.db.lock")
    lock_path.unlink()
    lock.record_commit(8)
    assert (0, False) == (lock.last_commit, lock_path.exists())
    lock.close()


def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    """The state can be opened at once, and no log of the killed process is lost."""
    with hold(path) as holder:
        holder.commit("b")
    assert not is_in_use(f"sqlite:///{path}")
    with closing(open_path(path)) as store:
        assert 2 == store.series_values()[LOGS].value


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda path: path.write_bytes(b""),
            (
                "{path} is empty, but an earlier run left state.db-wal; it was not changed: restore a backup, or remove"
                " state.db and state.db-wal to begin a new state"
            ),
        ),
        (
            lambda path: (path.write_bytes(b""), path.with_name("state.db-wal").unlink()),
            "{path} is empty; it was not changed: restore a backup, or remove state.db to begin a new state",
        ),
        (
            lambda path: path.unlink(),
            (
                "{path} is missing, but an earlier run left state.db-wal; it was not changed: restore a backup, or"
                " remove state.db-wal to begin a new state"
            ),
        ),
    ],
    ids=["empty", "empty without WAL", "missing"],
)
def test_remains_of_a_state_are_damage(path: Path, damage: Callable[[Path], object], expected: str) -> None:
    """A database that is empty or gone is not created again, until the user follows the advice."""
    with hold(path):
        pass
    damage(path)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            open_path(path)
        assert expected.format(path=path) == str(caught.value)
        with pytest.raises(StoreError):
            is_in_use(f"sqlite:///{path}")
    for name in expected.partition("remove ")[2].removesuffix(" to begin a new state").split(" and "):
        path.with_name(name).unlink()
    with closing(open_path(path)) as store:
        assert {} == store.series_values()


def test_a_removed_state_is_created_again(path: Path) -> None:
    """The lock file alone is no damage: the user may have removed the state, and its number does not count any more."""
    with closing(open_path(path)) as store:
        commit(store, "a")
        commit(store, "b")
    path.unlink()
    with closing(open_path(path)) as store:
        assert {} == store.series_values()
        commit(store, "a")
    with closing(open_path(path)) as store:
        assert not store.feed_state(SCOPE).is_restored


def test_an_empty_file_is_damage(path: Path) -> None:
    """The exporter never creates one, but a copy to a full disk does; a new state would start all counters again."""
    path.touch()
    url = f"sqlite:///{path}"
    for use in (open_store, open_snapshot, is_in_use):
        with pytest.raises(StoreError, match=f"^{path} is empty; it was not changed: restore a backup"):
            use(url)
    assert [path] == list(path.parent.iterdir())
    assert not path.stat().st_size


@pytest.mark.parametrize("exists", [True, False])
def test_a_lock_file_is_no_symbolic_link(path: Path, *, exists: bool) -> None:
    """In a folder that others can write, a link could have the record written over any file."""
    victim, lock_path = path.with_name("victim"), path.with_name("state.db.lock")
    if exists:
        victim.write_text("precious")
    lock_path.symlink_to(victim)
    expected = f"^{path}: the state cannot be locked: {lock_path} is a symbolic link; remove it$"
    with pytest.raises(StoreError, match=expected):
        open_path(path)
    lock_path.unlink()
    with closing(open_path(path)) as store:
        lock_path.unlink()
        lock_path.symlink_to(victim)
        commit(store, "a")
    assert exists == victim.exists()
    if exists:
        assert "precious" == victim.read_text()


@pytest.mark.parametrize("size", [1, 100, 4096, -4096, 0.5])
def test_a_truncated_state_is_refused(path: Path, size: float) -> None:
    """A state that has lost its end is named and not changed; a negative size is what is cut off."""
    with closing(open_path(path)) as store:
        for number in range(200):
            commit(store, f"{number:024}")
    content = path.read_bytes()
    content = content[: int(len(content) * size) if 0 < size < 1 else int(size)]
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"^{path}"), closing(open_path(path)) as store:
        store.series_values()
    assert content == path.read_bytes()


def test_the_record_never_fails(path: Path) -> None:
    """A record that cannot be read is none, and a second number overwrites the first one."""
    with StateLock(path) as lock:
        assert 0 == lock.last_commit
        lock.record_commit(12)
        lock.record_commit(7)
        assert 7 == lock.last_commit
        path.with_name("state.db.lock").write_text("odd")
        assert 0 == lock.last_commit
        path.with_name("state.db.lock").unlink()
        path.with_name("state.db.lock").mkdir()
        lock.record_commit(8)
