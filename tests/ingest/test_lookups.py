"""Results of look-ups are used again as long as they are true."""

from __future__ import annotations

from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.ingest.lookups import Lookup, LookupCache
from late_exporter.model import KnownLogs, ListedMinutes, LogEntry, LogPage, TimeRange
from late_exporter.store.uncommitted import UncommittedLogs

NOW = 1_800_000_000_000
KNOWN = KnownLogs({"a": frozenset({"success"})}, 1)


def page(*times: int | None) -> LogPage:
    """Return a page with logs of these times."""
    return LogPage(tuple(LogEntry(key=f"{number}", status="success", created=at) for number, at in enumerate(times)))


def lookup(of: LogPage, *, since: int | None = NOW, partial_time: int = 0, uncommitted: str = "") -> Lookup:
    """Return a look-up of a page, by default of a first page."""
    logs = UncommittedLogs()
    logs.add(LogEntry(key=key, status="success") for key in uncommitted)
    return Lookup(FEEDS["publishing"], of, since, logs, frozenset({partial_time}))


def test_the_same_question_has_the_same_answer() -> None:
    """A first page needs no other look-up, but with other partial times, uncommitted logs or in another minute."""
    cache, first = LookupCache(), page(NOW)
    cache.add(lookup(first), KNOWN)
    assert KNOWN is cache.find(lookup(first)) is cache.find(lookup(first, since=NOW + 59_999))
    assert cache.find(lookup(first, since=NOW + 60_000)) is None
    assert cache.find(lookup(first, since=None)) is None
    assert cache.find(lookup(first, partial_time=1)) is None
    assert cache.find(lookup(first, uncommitted="b")) is None
    assert cache.find(lookup(page(NOW))) is None
    cache = LookupCache()
    cache.add(lookup(first, uncommitted="b"), KNOWN)
    assert cache.find(lookup(first, uncommitted="b")) is None


def test_a_result_is_kept_as_long_as_its_page() -> None:
    """Results take no memory if no page is kept until the next poll, as with many workspaces."""
    cache, first, second = LookupCache(), page(NOW), page(NOW + 1)
    cache.add(lookup(first), KNOWN)
    cache.add(lookup(second), KNOWN)
    del first
    assert KNOWN is cache.find(lookup(second))
    del second
    assert cache._result is not KNOWN  # noqa: SLF001 - what is tested


def test_pages_of_an_empty_range_are_new() -> None:
    """All logs of the page must have times in the range, and their number must not be asked for."""
    cache = LookupCache()
    cache.add(lookup(page(NOW), since=None), KnownLogs({}, empty_range=TimeRange(NOW - 10, NOW + 1)))
    inside = page(NOW, NOW - 10)
    assert KnownLogs({}, entries=inside.entries) == cache.find(lookup(inside, since=None))
    for outside in (page(NOW + 1, NOW), page(NOW, NOW - 11), page(NOW, None)):
        assert cache.find(lookup(outside, since=None)) is None
    assert cache.find(lookup(inside)) is None


def test_alike_logs_of_an_empty_range_may_be_undecided() -> None:
    """A page that may lack logs of a time is looked up if an uncommitted alike log has another status."""
    cache, keys = LookupCache(), [f"{NOW:013d}-{'b' * 12}.{number}" for number in range(2)]
    cache.add(lookup(page(NOW), since=None), KnownLogs({}, empty_range=TimeRange(NOW - 10, NOW + 1)))
    read_logs = UncommittedLogs()
    read_logs.add(LogEntry(key=key, status="pending", created=NOW) for key in keys)
    settled = LogPage((LogEntry(key=keys[0], status="success", created=NOW),), without_ids=True)
    for partial_times, is_decided in ((frozenset({NOW}), False), (frozenset[int](), True)):
        found = cache.find(Lookup(GENERATIONS["zernio"]["publishing"], settled, None, read_logs, partial_times))
        assert is_decided == (found is not None)


def test_minutes_are_marked_again_only_if_logs_have_changed() -> None:
    """A commit that has changed no mark need not be repeated."""
    cache = LookupCache()
    first, second = ListedMinutes(1, 3, {2: 5}), ListedMinutes(1, 4, {2: 5})
    assert [first] == cache.unmarked([first])
    cache.add_marked([first])
    assert [second] == cache.unmarked([first, second])
    assert [ListedMinutes(1, 3, {2: 4})] == cache.unmarked([ListedMinutes(1, 3, {2: 4})])
