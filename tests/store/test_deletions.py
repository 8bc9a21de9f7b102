"""Deletion marks, and counts of time windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from late_exporter.model import MINUTE_MS, Batch, ListedMinutes, LogEntry, Observation, Scope
from late_exporter.store import Store, is_postgres, open_store
from late_exporter.store.maintenance import open_admin
from tests.support.store import commit_batch

SCOPE = Scope("acme", "publishing")
DAY = 86_400_000
START = 29_926_000
"""A minute since the Unix epoch."""


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Return a store with three logs in each of ten minutes, at 0, 20 and 40 seconds."""
    with closing(open_store(url)) as store:
        times = [(START + minute) * MINUTE_MS + second * 1000 for minute in range(10) for second in (0, 20, 40)]
        commit(store, times)
        yield store


def entry(created: int, status: str = "success") -> LogEntry:
    """Return a log whose key begins with its time."""
    return LogEntry(key=f"{created:013d}-f=d.0", status=status, created=created)


def commit(
    store: Store, times: Sequence[int] = (), *, listed: Sequence[ListedMinutes] = (), status: str = "success"
) -> None:
    """Commit logs and listed minutes."""
    observations = [Observation(entry(created, status), ()) for created in times]
    commit_batch(store, SCOPE, Batch(committed_at=0.0, observations=observations, listed_minutes=listed))


def counts(store: Store) -> tuple[int, int]:
    """Return the number of logs that are not marked, and of those that are."""
    known_logs = store.lookup(SCOPE, (), since=0)
    return known_logs.stored_count, known_logs.deleted_count


def window(store: Store, first: float, last: float) -> int:
    """Return the number of logs of a time range, in minutes since the first log."""
    return store.count_logs(SCOPE, int((START + first) * MINUTE_MS), int((START + last) * MINUTE_MS) - 1)


def listed_minutes(first: int, last: int, **found: int) -> ListedMinutes:
    """Return listed minutes since the first log."""
    numbers = {START + int(minute.removeprefix("m")): count for minute, count in found.items()}
    return ListedMinutes(START + first, START + last, numbers)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 10, 30),
        (2, 3, 3),
        (2, 2.5, 2),
        (2.5, 3, 1),
        (2.5, 4.1, 5),
        (2.1, 2.2, 0),
        (2.1, 2.5, 1),
        (1.9, 2.1, 1),
        (20, 30, 0),
        (-5, 0, 0),
        (-5, 0.01, 1),
    ],
)
def test_a_window_is_counted(first: float, last: float, expected: int, store: Store) -> None:
    """Windows of any bounds are counted exactly, also within a minute."""
    assert expected == window(store, first, last)


def test_a_log_in_two_statuses_is_one_log(store: Store) -> None:
    """Logs are counted, not their statuses."""
    commit(store, [(START + 2) * MINUTE_MS], status="pending")
    assert (3, 2) == (window(store, 2, 3), window(store, 2, 2.5))


def test_logs_that_are_not_listed_are_marked(store: Store) -> None:
    """In a range that was read completely, each minute has the listed number of logs, and others keep theirs."""
    commit(store, listed=[listed_minutes(2, 4, m2=1, m3=3)])
    assert (25, 5) == counts(store)
    assert [3, 1, 3, 0, 3] == [window(store, minute, minute + 1) for minute in range(1, 6)]


def test_marks_follow_the_last_reading(store: Store) -> None:
    """A mark is recalculated, and removed if the logs are listed again; new logs of the minute are not marked."""
    commit(store, listed=[listed_minutes(2, 2, m2=1)])
    commit(store, [(START + 2) * MINUTE_MS + 1])
    assert (29, 2) == counts(store)
    commit(store, listed=[listed_minutes(0, 9, **{f"m{minute}": 3 + (minute == 2) for minute in range(10)})])
    assert (31, 0) == counts(store)


def test_entries_of_the_same_batch_are_listed(store: Store) -> None:
    """The logs of a batch are stored before its listed minutes are compared."""
    commit(store, [(START + 2) * MINUTE_MS + 7], listed=[listed_minutes(2, 2, m2=4)])
    assert (31, 0) == counts(store)


def test_logs_that_share_a_key_are_counted(store: Store) -> None:
    """If a minute lists more logs than are stored, because some share a key, its number is that of the list."""
    commit(store, listed=[listed_minutes(2, 2, m2=5)])
    assert (32, 5) == (counts(store)[0], window(store, 2, 3))


def test_expired_logs_are_counted_without_their_marks(store: Store) -> None:
    """Logs past their retention are neither in the number of stored nor in that of marked logs."""
    commit(store, listed=[listed_minutes(0, 9, m0=1, m9=1)])
    since = (START + 5) * MINUTE_MS + 2 * MINUTE_MS
    known_logs = store.lookup(SCOPE, (), since=since)
    assert (1, 14) == (known_logs.stored_count, known_logs.deleted_count)


def test_a_marked_log_stays_known(store: Store) -> None:
    """A log that was marked and appears again is not new."""
    commit(store, listed=[listed_minutes(0, 9)])
    assert (0, 30) == counts(store)
    again = [entry((START + 2) * MINUTE_MS)]
    assert {again[0].key} == store.lookup(SCOPE, again, since=0).statuses.keys()


def test_pruned_logs_take_their_marks_along(store: Store, url: str) -> None:
    """After marked logs were pruned, at once or with their day, the numbers of logs and marks still agree."""
    commit(store, listed=[listed_minutes(0, 9, m1=1, m8=1)])
    commit_batch(store, SCOPE, Batch(committed_at=0.0, prune_before=(START + 5) * MINUTE_MS))
    assert [] == list(open_admin(url).check())
    assert counts(store) == ((2, 28) if is_postgres(url) else (1, 14))
    commit_batch(store, SCOPE, Batch(committed_at=0.0, prune_before=START * MINUTE_MS + DAY))
    assert (0, 0) == counts(store)
    assert [] == list(open_admin(url).check())


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_marks_that_do_not_add_up_are_found(store: Store, url: str) -> None:
    """The check of a state names a number of marks that its minutes contradict."""
    store._connection.execute("UPDATE logs_per_minute SET deleted = 1 WHERE minute = ?", (START,))  # type: ignore[attr-defined] # noqa: SLF001 - damages the state
    assert ["acme/publishing: 0 logs are marked as deleted, but 1 per minute"] == list(open_admin(url).check())


def empty_range(store: Store, *minutes: float) -> tuple[int, int] | None:
    """Return the empty range of a page with logs at these minutes since the first log; None if it has no time."""
    entries = [entry(int((START + minute) * MINUTE_MS)) for minute in minutes]
    found = store.lookup(SCOPE, entries, since=None).empty_range
    if found is None or found.first >= found.end:
        return None
    return max(found.first // MINUTE_MS - START, -100), found.end // MINUTE_MS - START


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ((20, 12), (10, 21)),
        ((-3, -5), (-100, -2)),
        ((12.5, 5.1), (10, 13)),  # the stored logs around 5.1 are outside
        ((20, 9, 8.9, 8.8), None),  # logs of the minute before are stored, too
        ((12, 5), None),  # the last one is stored
        ((), None),
    ],
)
def test_empty_ranges(page: Sequence[float], expected: tuple[int, int] | None, store: Store) -> None:
    """A page that ends with new logs tells the times around them at which no log is stored."""
    assert expected == empty_range(store, *page)


def test_an_empty_range_ends_at_stored_logs(store: Store) -> None:
    """What is stored later is in no range, also of other logs of the same minute."""
    commit(store, [int((START + 15.5) * MINUTE_MS)])
    assert (16, 21) == empty_range(store, 20, 12)
    assert (10, 15) == empty_range(store, 15.7, 15.2, 12)
    assert (10, 15) == empty_range(store, 20, 15.5, 15.2, 12)


def test_logs_without_a_time_have_no_empty_range(store: Store) -> None:
    """Nothing is known of the times around logs without one."""
    entries = [LogEntry(key=key, status="success", created=None) for key in "xy"]
    assert store.lookup(SCOPE, entries, since=None).empty_range is None


def test_commits_tell_whether_logs_have_changed(store: Store) -> None:
    """A commit that neither adds, marks nor deletes a log says so: its pages are as before."""
    listed, retention = listed_minutes(2, 3, m2=3, m3=3), (START + 1) * MINUTE_MS

    def keeps_logs(**changes: Any) -> bool:
        return commit_batch(store, SCOPE, Batch(committed_at=0.0, **{"observations": (), **changes})).keeps_logs

    known = Observation(entry(START * MINUTE_MS), ())
    assert keeps_logs(observations=[known], listed_minutes=[listed])
    assert not keeps_logs(observations=[Observation(entry(START * MINUTE_MS + 1), ())])
    assert not keeps_logs(listed_minutes=[listed_minutes(2, 3, m2=3, m3=2)])
    keeps_logs(prune_before=retention - MINUTE_MS)
    assert not keeps_logs(observations=[Observation(LogEntry(key="x", status="success", created=retention - 1), ())])
    assert not keeps_logs(prune_before=retention)
    assert keeps_logs(prune_before=retention), "no more logs have expired"
