"""Workspaces are copied between states of every backend, exactly or not at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.model import IncCounter, LogEntry, ObserveHistogram, Scope
from late_exporter.store import Store, copying, database_at
from late_exporter.store.copying import copy_state
from late_exporter.store.database import LONG_SECONDS
from late_exporter.store.records import Batch, Coverage, Observation
from tests.support.exporter import open_store
from tests.support.store import LOGS, NOW, all_rows, commit_batch, problems, read_scopes

DAY = 86_400_000
FEEDS = ("publishing", "connections")


def fill(store: Store, workspace: str, count: int = 20) -> None:
    """Commit logs of two feeds: in several statuses, pending, without a time, and with odd text."""
    for feed in FEEDS:
        times = [NOW + number * DAY // 3 for number in range(count)]
        entries = [LogEntry(key=f"{at:013d}-k.0", status="failed", created=at) for at in times]
        entries += [LogEntry(key=f"{NOW:013d}-k.{number}", status="pending", created=NOW) for number in range(1, 4)]
        entries += [LogEntry(key=f"{NOW:013d}-k.1", status="success", created=NOW)]
        entries += [LogEntry(key='a\x7f"é🔥', status="odd\t", created=None, platform="x\\", post_id="p")]
        counter = IncCounter(LOGS, (workspace, 'ti"kt\\k\n🚀', feed, "failed"))
        logs = [Observation(entry, (counter,)) for entry in entries]
        batch = Batch(
            scope=Scope(workspace, feed),
            observations=logs,
            coverage=Coverage(retention_floor=0, complete_since=1, is_synced=True),
            increments=[ObserveHistogram("late_duration", (workspace,), micros=(500_000,), bounds=(1.0,))],
            progress=b'{"page": 1}',
        )
        commit_batch(store, batch)


@pytest.fixture
def source(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a state with two workspaces, whose rows are copied in several chunks."""
    monkeypatch.setattr(copying, "ROWS_PER_CHUNK", 7)
    with closing(open_store(url)) as store:
        fill(store, "acme")
        fill(store, "umbrella", 5)
    return url


def test_a_copy_has_the_same_rows(source: str, target: str) -> None:
    """An exporter counts on there as it would have done here."""
    before = all_rows(source)
    copy_state(source, target)
    assert before == all_rows(source) == all_rows(target)
    for url in (source, target):
        with closing(open_store(url)) as store:
            fill(store, "acme", 21)
    assert all_rows(source) == all_rows(target)
    assert problems(target) == []


def test_workspaces_are_copied_beside_others(source: str, target: str) -> None:
    """They keep everything, and the others do not change."""
    with closing(open_store(target)) as store:
        fill(store, "present", 3)
    before = all_rows(target)
    copy_state(source, target)
    for table, rows in all_rows(target).items():
        assert before[table] == [row for row in rows if row[0] == "present"]
        assert all_rows(source)[table] == [row for row in rows if row[0] != "present"]
    assert problems(target) == []


def test_a_copy_may_take_any_time(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is that of each answer."""
    elapsed, monotonic = [0.0], time.monotonic

    insert = copying._insert  # noqa: SLF001

    def insert_slowly(name: str, columns: Sequence[str]) -> str:
        elapsed[0] += LONG_SECONDS
        return insert(name, columns)

    monkeypatch.setattr(copying, "_insert", insert_slowly)
    monkeypatch.setattr("time.monotonic", lambda: monotonic() + elapsed[0])
    copy_state(source, target)
    assert all_rows(source) == all_rows(target)


def test_a_workspace_of_the_target_is_not_changed(source: str, target: str) -> None:
    """The error names it, and nothing is copied, nor is the workspace before it."""
    with closing(open_store(target)) as store:
        fill(store, "umbrella", 3)
    before = all_rows(target)
    with pytest.raises(StoreError, match=r"there is a workspace umbrella already, and nothing was copied; copy into"):
        copy_state(source, target)
    assert before == all_rows(target)


def test_a_copy_of_a_backup(source: str, target: str, tmp_path: Path) -> None:
    """No exporter has opened it yet."""
    if source.startswith("sqlite:"):
        database_at(source).backup(tmp_path / "backup.db")
        copy_state(f"sqlite:///{tmp_path}/backup.db", target)
        assert all_rows(source) == all_rows(target)


def test_a_state_in_use_is_not_copied(source: str, target: str) -> None:
    """Neither from nor to: an exporter that uses it would go on with what is left behind."""
    for used in (source, target):
        with closing(open_store(used)):
            with pytest.raises(StoreInUse, match=r"in use by an exporter; stop it first$"):
                copy_state(source, target)
            with suppress(StoreError):
                assert read_scopes(target) == []
    copy_state(source, target)
