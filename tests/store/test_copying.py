"""Workspaces are copied between states of every backend, exactly or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.model import DAY_MS, Batch, Coverage, LogEntry, Observation, PendingLog, Scope
from late_exporter.series import IncCounter, Labels, ObserveHistogram, SeriesValue
from late_exporter.store import Store, open_store
from late_exporter.store.copying import copy_rows
from late_exporter.store.maintenance import StateSnapshot, open_admin, open_snapshot
from tests.support.store import all_rows, commit_batch, copy_state

NOW = 20_400 * DAY_MS
LOGS, DURATION = "late_publishing_logs_total", "late_publishing_duration_seconds"
FEEDS = ("publishing", "connections")


def fill(store: Store, workspace: str, count: int = 20) -> None:
    """Commit logs of two feeds: on several days, in several statuses, pending, without a time, and with odd text."""
    for feed in FEEDS:
        entries = [
            LogEntry(key=f"{NOW + number * DAY_MS // 3:013d}-k.0", status="failed", created=NOW + number * DAY_MS // 3)
            for number in range(count)
        ]
        entries += [LogEntry(key=f"{NOW:013d}-k.{number}", status="pending", created=NOW) for number in range(1, 4)]
        entries += [LogEntry(key=f"{NOW:013d}-k.1", status="success", created=NOW)]
        entries += [LogEntry(key='a\x00"é🔥', status="odd\x00", created=None, platform="x\x00", post_id="p")]
        counter = IncCounter(LOGS, (workspace, 'ti"kt\x00k\n🚀', feed))
        logs = [Observation(entry, (counter,), event=b'{"odd": "\\u0000"}') for entry in entries]
        coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
        observed = ObserveHistogram(DURATION, (workspace,), micros=500_000, bounds=(1.0,))
        batch = Batch(
            committed_at=1.5, observations=logs, coverage=coverage, increments=[observed], progress=b'{"page": 1}'
        )
        commit_batch(store, Scope(workspace, feed), batch)


@pytest.fixture
def source(url: str) -> str:
    """Return the URL of a state with two workspaces."""
    with closing(open_store(url)) as store:
        fill(store, "acme")
        fill(store, "umbrella", 5)
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.e2e)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a state that does not exist yet."""
    if request.param == "postgres":
        created: str = request.getfixturevalue("postgres").create_schema()
        return created
    return f"sqlite:///{tmp_path / 'there' / 'target.db'}"


def test_a_copy_has_the_same_rows(source: str, target: str) -> None:
    """A state that is copied has the same rows in any backend, and an exporter counts on there."""
    before = all_rows(source)
    assert sum(map(len, before.values())) == copy_state(source, target)
    assert before == all_rows(source) == all_rows(target)
    assert [] == list(open_admin(target).check())
    scope = Scope("acme", "publishing")
    with closing(open_store(source)) as first, closing(open_store(target)) as second:
        for store in (first, second):
            fill(store, "acme", 21)
        assert first.series_values() == second.series_values()
        assert first.feed_state(scope) == second.feed_state(scope)
        assert (
            PendingLog(f"{NOW:013d}-k.2", NOW, "unknown", "unknown", None)
            in second.feed_state(scope).pending_logs.values()
        )


def series_of(snapshot: StateSnapshot, workspace: str) -> dict[tuple[str, Labels], SeriesValue]:
    """Return the values of a workspace by family and further labels."""
    series = snapshot.series_values().items()
    return {(family, labels[1:]): value for (family, labels), value in series if labels[0] == workspace}


def test_a_workspace_is_copied_beside_others(source: str, target: str) -> None:
    """A workspace keeps everything but its ids, under its name or another one, and the others do not change."""
    with closing(open_store(target)) as store:
        fill(store, "present", 3)
    before = all_rows(target)
    assert copy_state(source, target, "umbrella") == copy_state(source, target, "umbrella", "weiß-1")
    with open_snapshot(source) as here, open_snapshot(target) as there:
        assert ["present", "umbrella", "weiß-1"] == there.workspaces
        for table, rows in before.items():
            assert rows == [*there.rows(table, ["present"])]
        for name in ("umbrella", "weiß-1"):
            for feed in FEEDS:
                expected = here.feed_state(Scope("umbrella", feed))
                assert expected == there.feed_state(Scope(name, feed))
                assert [*here.recorded_statuses(Scope("umbrella", feed))] == [
                    *there.recorded_statuses(Scope(name, feed))
                ]
            assert series_of(here, "umbrella") == series_of(there, name)
    assert [] == list(open_admin(target).check())
    with closing(open_store(target)) as store:
        fill(store, "weiß-1", 6)
        assert 6 + 4 == store.feed_state(Scope("weiß-1", "publishing")).log_count


def test_a_workspace_gets_another_name_in_its_state(source: str) -> None:
    """The source may be the target, so that a workspace continues under another name."""
    before = all_rows(source)
    assert 0 < copy_state(source, source, "acme", "agency")
    with open_snapshot(source) as snapshot:
        assert ["acme", "agency", "umbrella"] == snapshot.workspaces
        for table, rows in before.items():
            assert rows == [*snapshot.rows(table, ["acme", "umbrella"])]
    assert [] == list(open_admin(source).check())


def test_a_workspace_of_the_target_is_not_changed(source: str, target: str) -> None:
    """The error names it, and nothing is copied."""
    copy_state(source, target, "umbrella")
    before = all_rows(target)
    for workspace, new_name in ((None, None), ("umbrella", None), ("acme", "umbrella")):
        with pytest.raises(StoreError, match="there is a workspace umbrella already, and nothing was copied; copy one"):
            copy_state(source, target, workspace, new_name)
    with pytest.raises(StoreError, match=r"there is no workspace acne; there are acme, umbrella$"):
        copy_state(source, target, "acne")
    assert before == all_rows(target)


class FaultySource:
    """A state of which one row differs, or whose rows end with an error, when a table is read for some time."""

    def __init__(self, snapshot: Any, fault: Callable[[Sequence[Any]], Sequence[Any]], table: str, turn: int) -> None:
        self._snapshot, self._fault, self._table, self._turn = snapshot, fault, table, turn
        self.name, self.workspaces = snapshot.name, snapshot.workspaces

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Sequence[Any]]:
        is_faulty = False
        if table == self._table:
            self._turn -= 1
            is_faulty = not self._turn
        for row in self._snapshot.rows(table, workspaces):
            yield self._fault(row) if is_faulty else row
            is_faulty = False


def fail(_: Sequence[Any]) -> Sequence[Any]:
    raise StoreError("the source: disk I/O error")


def change_value(row: Sequence[Any]) -> Sequence[Any]:
    family, labels, _, *rest = row
    return (family, labels, b"7", *rest)


@pytest.mark.parametrize(
    ("fault", "table", "turn", "words"),
    [
        (fail, "event", 1, "the source: disk I/O error"),
        (fail, "scope", 2, "the source: disk I/O error"),
        (change_value, "series", 2, "the copy of series differs from .*; nothing was copied"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_failed_copy_leaves_nothing(
    source: str, target: str, fault: Any, table: str, turn: int, words: str, *, is_new: bool
) -> None:
    """If a row cannot be read, or differs in the copy, the target is as before; a new one is not created."""
    if not is_new:
        with closing(open_store(target)) as store:
            fill(store, "present", 3)
    before = None if is_new else all_rows(target)
    with (
        open_snapshot(source) as snapshot,
        pytest.raises(StoreError, match=words),
        open_admin(target).writing() as rows,
    ):
        copy_rows(FaultySource(snapshot, fault, table, turn), rows)
    if is_new:
        with pytest.raises(StoreError, match="there is no state"):
            open_snapshot(target)
    else:
        assert before == all_rows(target)


def test_a_full_disk_is_named(source: str, tmp_path: Path) -> None:
    """The error names the target, also if SQLite itself has rolled back the copy."""
    path = tmp_path / "full.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        fill(store, "present", 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON pending BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END"
        )
    before = all_rows(f"sqlite:///{path}")
    with pytest.raises(StoreError, match=r"full\.db: disk is full$"):
        copy_state(source, f"sqlite:///{path}")
    assert before == all_rows(f"sqlite:///{path}")


def test_a_state_in_use_is_no_target(source: str, target: str) -> None:
    """Nothing is written to a state that an exporter has open."""
    with closing(open_store(target)) as store:
        fill(store, "present", 3)
        with pytest.raises(StoreInUse):
            copy_state(source, target)
        assert {"present"} == {labels[0] for _, labels in store.series_values()}


def test_a_state_of_another_version_is_no_target(source: str, tmp_path: Path) -> None:
    """A target with another schema is named and not changed."""
    path = tmp_path / "other.db"
    open_store(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 8")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"other\.db is a state of another version of late-exporter \(schema 8, "):
        copy_state(source, f"sqlite:///{path}")
    assert before == path.read_bytes()
