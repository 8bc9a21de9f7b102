"""Compare a log list with the recorded logs, one by one, and the counters with the store's own accounting.

The audit shares no rule with the reader, whose work it checks: it scans the whole list by itself and uses the coverage
only to exclude what the exporter does not claim to have recorded. Like the reader it is a generator without network,
database or clock: it yields a step and is sent the result.

The list moves while it is read, and the exporter goes on recording, so logs are compared only up to a time at which
everything should have been recorded. Logs without a time are not compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TypeAlias

import msgspec

from late_exporter.errors import BadPayload, BadRequest
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.paging import MAX_WHOLE_SKIP, PagePosition
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.names import ENTRIES_REJECTED
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, PENDING, Coverage, FeedAccounting, LogEntry, Scope
from late_exporter.series import Series, SeriesValue

MAX_REPEATS = 10
"""Pages without new logs, or found above their position, that are accepted: the list may move as fast as it is read."""

GRACE_POLLS = 3
MIN_GRACE_SECONDS = 60.0


class Difference(msgspec.Struct, frozen=True, gc=False):
    """A log that is not recorded in its current status, and the statuses in which it is recorded."""

    entry: LogEntry
    recorded_statuses: frozenset[str]


class CounterMismatch(msgspec.Struct, frozen=True, gc=False):
    """A count that contradicts the others.

    Args:
        family: Metric family; empty for the number of stored logs.
        expected: Count by the other sources.
        actual: Count as found.
    """

    family: str
    expected: int
    actual: int


ScanSteps: TypeAlias = Generator[FetchPage, FetchedPage | None, None]


class ListScan(msgspec.Struct):
    """State of a scan of a log list.

    Args:
        max_skip: Rows to skip before pages are requested by time; None if the list cannot be filtered by time.
        previous_keys: Keys of the page before.
        previous_times: Creation times of the page before, in its order.
        step_back: Rows to go back if the next page does not share a row with it.
        tail_start: Time of the last log before the part of the list that has only logs without a time; None before
            that part.
        has_gone_back: Whether the last page was found above its expected position.
        repeat_count: Pages without new logs, or found above their position, since one led further than all before.
        reach: Largest depth, and smallest time in milliseconds, to which pages have led; None before the first one.
    """

    max_skip: int | None = None
    position: PagePosition = PagePosition()
    previous_keys: frozenset[str] = frozenset()
    previous_times: tuple[int, ...] = ()
    step_back: int = PAGE_SIZE // 2
    tail_start: int | None = None
    has_gone_back: bool = False
    repeat_count: int = 0
    reach: tuple[int, int] | None = None

    @property
    def is_end(self) -> bool:
        """Whether no log follows the page if it is the last one at its position."""
        return self.position.before is None or self.position.depth > MAX_WHOLE_SKIP

    def advance(self, page: FetchedPage) -> bool:
        """Move below a page; return False if only logs without a time can follow, and the API does not show them."""
        keys, times = frozenset(entry.key for entry in page.entries), page.times
        row_count = max(1, len(page.entries) - PAGE_OVERLAP)
        is_new = self._extend_reach(self.position.depth + row_count, min(times, default=0))
        is_repeated = keys <= self.previous_keys and not page.page.may_share_keys(self.position.skip)
        if is_repeated or (self.has_gone_back and not is_new):
            self.repeat_count += 1
        elif is_new:
            self.repeat_count = 0
        if self.repeat_count > MAX_REPEATS:
            if self.tail_start is not None:
                return False
            if self.position.before is None:
                raise BadPayload(f"the log list repeats the same page at skip={self.position.skip}")
            # However the API reads the bound, it leads no further.
            self.position, self.max_skip, self.repeat_count = self.position.in_whole_list, None, 0
        if page.is_last:
            # Only the whole list has logs without a time.
            self.tail_start, self.position = min(times, default=0), PagePosition(self.position.depth + row_count)
        else:
            if self.tail_start is not None and min(times, default=self.tail_start) < self.tail_start:
                self.tail_start = None
            max_skip = self.max_skip if self.tail_start is None else None
            self.position = self.position.advance(times, row_count, max_skip)
        self.previous_keys, self.previous_times = keys, times
        self.step_back, self.has_gone_back = PAGE_SIZE // 2, False
        return True

    def _extend_reach(self, depth: int, created: int) -> bool:
        """Note how far a page has led; return whether that is further down, or to older logs, than all before."""
        if self.reach is None or self.position.is_top:
            self.reach = depth, created
            return True
        deepest, lowest = self.reach
        self.reach = max(depth, deepest), min(created, lowest)
        return depth > deepest or created < lowest


class Audit(msgspec.Struct, kw_only=True):
    """Input and result of an audit of one log list.

    Args:
        coverage: Coverage last committed.
        cutoff: Time in milliseconds up to which logs are compared; newer ones may not be recorded yet.
        since: Logs older than this are excluded, as are those below the coverage's retention floor.
        compares_pending: Whether a log is a difference that was recorded as pending only, and has settled.
        listed_keys: Collects the keys of all logs in scope; None skips that.
        too_recent: Keys of logs that may not be recorded yet.
        in_gap: Keys of logs in gaps, which the exporter knows to be missing.
        unrecorded: Logs that are not recorded in their status, by key, newest first.
    """

    coverage: Coverage
    cutoff: int
    since: int = 0
    compares_pending: bool = True
    listed_keys: set[str] | None = None
    too_recent: set[str] = msgspec.field(default_factory=set)
    in_gap: set[str] = msgspec.field(default_factory=set)
    unrecorded: dict[str, Difference] = msgspec.field(default_factory=dict)

    @property
    def differences(self) -> list[Difference]:
        return list(self.unrecorded.values())

    @property
    def lower(self) -> int:
        return max(self.coverage.retention_floor, self.since)


def grace_period(interval: float) -> int:
    """Return the milliseconds before a poll within which a new log may not be recorded; ``interval`` is in seconds."""
    return int(max(GRACE_POLLS * interval, MIN_GRACE_SECONDS) * 1000)


def audit_list(audit: Audit, max_skip: int | None) -> ScanSteps:
    """Compare every log of the list; ``max_skip`` is that of the ListScan."""
    return scan_list(partial(_compare_page, audit), ListScan(max_skip))


def _compare_page(audit: Audit, page: FetchedPage) -> bool:
    """Compare a page; return whether the rest of the list is out of scope."""
    for entry in page.entries:
        if entry.is_own or (entry.created is not None and entry.created < audit.lower):
            continue
        if audit.listed_keys is not None:
            audit.listed_keys.add(entry.key)
        if entry.created is None:
            continue
        recorded_statuses = page.recorded_statuses(entry)
        if entry.status in recorded_statuses:
            audit.unrecorded.pop(entry.key, None)  # Pages overlap, and it was recorded in between.
            continue
        if _is_in_gap(audit.coverage, entry.created):
            audit.in_gap.add(entry.key)
        elif entry.created > audit.cutoff or (PENDING in recorded_statuses and not audit.compares_pending):
            audit.too_recent.add(entry.key)
        else:
            audit.unrecorded[entry.key] = Difference(entry, recorded_statuses)
    return leaves_scope(page, audit.lower)


def _is_in_gap(coverage: Coverage, created: int) -> bool:
    return any(gap.lower <= created <= gap.upper.created for gap in coverage.gaps)


def scan_list(visit: Callable[[FetchedPage], bool], scan: ListScan) -> ScanSteps:
    """Pass every log that is in the list throughout the scan to a visitor, which returns whether the scan may stop.

    Inserted rows push others down, so that they are visited twice. Deleted rows pull others up past the start of the
    next page; that page then shares no row with the one before, and the scan steps back until one does.

    Beyond ``scan.max_skip`` rows, pages are requested by time. The end of a list that is bounded by time is confirmed
    in the whole list.

    Raises:
        BadPayload: The list repeats itself.
        BadRequest: The API rejects a page, and there is no other way to it.
    """
    while True:
        page = yield from _fetch_continuation(scan)
        if page is None or visit(page) or (page.is_last and scan.is_end) or not scan.advance(page):
            return


def _fetch_continuation(scan: ListScan) -> Generator[FetchPage, FetchedPage | None, FetchedPage | None]:
    """Fetch the next page of a scan; return None if it cannot be read and has no log with a time."""
    while True:
        position = scan.position
        try:
            page = yield FetchPage(position.skip, created_before=position.before)
        except BadRequest as exc:
            if scan.tail_start is not None:
                return None
            scan.position = position.avoid(exc, min(scan.previous_times, default=0), by_time=scan.max_skip is not None)
            if scan.position.before is None:
                scan.max_skip = None
            continue
        if page is None:
            raise BadPayload("the API has no log list")
        if position.is_ignored(page.times):
            scan.position, scan.max_skip = position.in_whole_list, None
        elif position.is_top or _overlaps(page, scan, is_top=position.skip == 0):
            return page
        elif position.skip:
            scan.position = msgspec.structs.replace(position, skip=max(0, position.skip - scan.step_back))
            scan.step_back, scan.has_gone_back = scan.step_back * 2, True
        else:
            scan.has_gone_back = True
            scan.position = position.raised(min(scan.previous_times, default=0))
            if scan.position.before is None:
                scan.max_skip = None


async def fetch_next(
    steps: ScanSteps, step: FetchPage, fetch_page: Callable[[FetchPage], Awaitable[FetchedPage]]
) -> FetchPage | None:
    """Fetch the page of a step, and return the next step; None if there is none.

    The generator decides about a page that the API rejects; BadRequest is raised if it needs the page.
    """
    page = error = None
    try:
        page = await fetch_page(step)
    except BadRequest as exc:
        error = exc.without_frames()
    try:
        return steps.send(page) if error is None else steps.throw(error)
    except StopIteration:
        return None


def _overlaps(page: FetchedPage, scan: ListScan, *, is_top: bool) -> bool:
    """Return whether there can be no row between the previous page of a scan and the next one.

    Either they share one, or the list is sorted by time and the second page starts above the end of the first. The top
    of a list that is bounded by time has all logs of the time at which it starts.
    """
    if not scan.previous_keys.isdisjoint(entry.key for entry in page.entries):
        return True
    if not page.entries and scan.repeat_count and len(scan.previous_keys) <= PAGE_OVERLAP:
        return True  # The end of a list that always announces more.
    times, before = page.times, scan.previous_times
    if not times or not before:
        return False
    return (before[0] > before[-1] and times[0] > before[-1]) or (is_top and times[0] >= before[-1])


def leaves_scope(page: FetchedPage, lower: int) -> bool:
    """Return whether a page of a list sorted from new to old is older than ``lower``."""
    times = page.times
    return bool(times) and times[0] >= times[-1] and max(times) < lower


def check_counters(scope: Scope, feed: Feed, accounting: FeedAccounting) -> list[CounterMismatch]:
    """Compare a feed's counters, its recorded observations and its stored and pruned logs.

    Every observation increments the feed's counter or the counter of rejected entries once, is counted in the store's
    own accounting, and is stored until it is pruned. The three agree only if nothing was counted twice or not at all.
    """
    counter = _sum(accounting.series_values, feed.counter, scope.workspace, **feed.counter_labels)
    rejected = _sum(accounting.series_values, ENTRIES_REJECTED, scope.workspace, feed=scope.feed)
    mismatches = [
        CounterMismatch(feed.counter, accounting.observation_count - rejected, counter),
        CounterMismatch("", accounting.observation_count, accounting.stored_count + accounting.pruned_count),
    ]
    if counter == accounting.observation_count - rejected:
        # The counters of subsets can be compared only with a counter that is right itself.
        for family, (label, value) in feed.subset_counters.items():
            share = _sum(accounting.series_values, feed.counter, scope.workspace, **{label: value})
            mismatches.append(CounterMismatch(family, share, _sum(accounting.series_values, family, scope.workspace)))
    return [mismatch for mismatch in mismatches if mismatch.expected != mismatch.actual]


def count_missing(differences: Iterable[Difference], mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs should be counted in their current status, but are not."""
    return sum(1 for _ in differences) + sum(
        mismatch.expected - mismatch.actual
        for mismatch in mismatches
        if mismatch.family and mismatch.actual < mismatch.expected
    )


def count_extra(mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs are counted more than once, or will be, or are stored but not counted."""
    return sum(
        abs(mismatch.actual - mismatch.expected)
        for mismatch in mismatches
        if not mismatch.family or mismatch.actual > mismatch.expected
    )


def _sum(series_values: Mapping[Series, SeriesValue], family: str, workspace: str, **filters: str) -> int:
    names = CATALOGUE[family].labels
    required = {"workspace": workspace, **filters}.items()
    return sum(
        int(stored.value)
        for (name, labels), stored in series_values.items()
        if name == family
        and isinstance(stored.value, int | float)
        and required <= dict(zip(names, labels, strict=True)).items()
    )
