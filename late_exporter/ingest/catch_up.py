"""Read the newest logs of a list and the gaps below them, which decide the outcome of a poll.

A gap is the rest of a sweep that was interrupted, also by the end of the process; the first sync is
one. Every page is recorded with the coverage that is true once it is durable.
"""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES, UnrecognisedLogs
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.steps import Record, StepsTo
from late_exporter.ingest.sweep import Cursor, Place, Sweep, second_above
from late_exporter.model import LogEntry, LogPage
from late_exporter.store.records import Coverage, Gap, ListPosition

MIN_UNRECOGNISED = 3
"""Logs of a page that were read before, none of which is known, that show that keys have
changed."""


class Reading(msgspec.Struct, frozen=True):
    """The newest logs that a poll has read, and how far it came.

    Args:
        head: Page of the newest logs.
        below_head: Cursor below that page.
        reach: Cursor below all that was read from the top.
    """

    head: LogPage
    coverage: Coverage
    below_head: Cursor
    reach: Cursor


class CatchUp:
    """Reads what is new."""

    def __init__(self, view: FeedView) -> None:
        self._view = view
        self._head_failures = 0

    def read(self, interrupt_at: float) -> StepsTo[Reading]:
        """Read the newest logs, then the gaps.

        From ``interrupt_at`` on, a monotonic time, the newest logs are due again.
        """
        by_time = self._view.feed.supports_time_filter
        sweep = Sweep(by_time=by_time, failure_count=self._head_failures)
        try:
            head = yield from sweep.read()
        except REQUEST_FAILURES:
            self._head_failures += 1
            raise
        if not head.skipped:  # Otherwise every poll has to read around the same row.
            self._head_failures = 0
        below_head = sweep.cursor
        coverage, has_new_gap = yield from self._record_head(head, below_head.depth)

        is_interrupted = False
        if has_new_gap:
            coverage, is_interrupted = yield from self._read_gap(coverage, sweep, interrupt_at)
        while coverage.gaps and not is_interrupted:
            resumed = self._resume(coverage.gaps[0])
            coverage, is_interrupted = yield from self._read_gap(coverage, resumed, interrupt_at)
        return Reading(head, coverage, below_head, sweep.cursor)

    def _record_head(self, head: LogPage, depth: int) -> StepsTo[tuple[Coverage, bool]]:
        """Record the first page.

        If it does not reach the high-water mark, what lies between becomes a gap.

        Args:
            head: The page.
            depth: Index of its last log in the list.

        Returns:
            The coverage, and whether there is such a gap.
        """
        previous = self._view.coverage or self._initial_coverage(head)
        mark = previous.newest.created if previous.newest else previous.retention_floor
        _require_recognised(head, previous, mark)
        new = self._take(head, previous)
        # A single row with a wrong time must not move the high-water mark.
        newest = _median(head) or previous.newest
        coverage = msgspec.structs.replace(previous, newest=newest)

        # Of a page above the mark, a look-up may have counted all logs, but none below it.
        is_known = previous.newest is not None and not new and min(head.times, default=0) <= mark
        is_end = head.is_last and previous.is_synced
        has_gap = not (is_known or is_end or _reaches(head, mark))
        if has_gap:
            upper = _oldest(head, ListPosition(self._view.now(), ""))
            gap = Gap(upper, mark, depth, previous.caught_up_at)
            coverage = msgspec.structs.replace(coverage, gaps=(gap, *coverage.gaps))
        else:
            coverage = self._caught_up(coverage, previous.caught_up_at, head)
        yield Record(new, coverage)
        return coverage, has_gap

    def _initial_coverage(self, head: LogPage) -> Coverage:
        newest = max(head.times, default=None)
        feed = self._view.feed
        config = self._view.config
        lookback = int(config.lookback * 1000)
        floor = self._plausible_time(newest) - min(lookback, feed.retention)
        if newest is not None:
            # If the clock is ahead by more than the lookback, new logs would otherwise be taken for
            # old ones.
            floor = min(floor, newest - min(lookback, int(config.late_window * 1000)))
        return Coverage(retention_floor=floor, complete_since=floor, generation=feed.generation)

    def _read_gap(
        self, coverage: Coverage, sweep: Sweep, interrupt_at: float
    ) -> StepsTo[tuple[Coverage, bool]]:
        """Read the newest gap; every recorded page shrinks it in the coverage.

        Args:
            coverage: Coverage with the gap.
            sweep: Sweep that has reached its upper end.
            interrupt_at: Monotonic time from which the newest logs go first.

        Returns:
            The coverage, and whether something of the gap is left.
        """
        first_upper = coverage.gaps[0].upper.created
        may_have_more = not sweep.is_end
        try:
            while True:
                page = yield from sweep.read()
                gap, *others = coverage.gaps
                _require_recognised(page, coverage, gap.lower)
                new = self._take(page, coverage)

                # The end of the list must be seen twice before a first sync is complete.
                is_end = sweep.is_end and (coverage.is_synced or not (new or may_have_more))
                may_have_more = bool(new)
                if is_end or _reaches(page, gap.lower):
                    coverage = msgspec.structs.replace(coverage, gaps=tuple(others))
                    coverage = self._caught_up(coverage, gap.last_complete_at, page)
                    yield Record(new, coverage)
                    return coverage, False

                gaps = (_shrink(gap, page, sweep.cursor.depth), *others)
                coverage = msgspec.structs.replace(coverage, gaps=gaps)
                yield Record(new, coverage)
                has_progress = gaps[0].upper.created < first_upper
                if has_progress and self._view.monotonic() > interrupt_at:
                    return coverage, True
        except REQUEST_FAILURES:
            gap, *others = coverage.gaps
            failed = msgspec.structs.replace(gap, failure_count=gap.failure_count + 1)
            yield Record(coverage=msgspec.structs.replace(coverage, gaps=(failed, *others)))
            raise

    def _take(self, page: LogPage, coverage: Coverage) -> tuple[LogEntry, ...]:
        """Return what is new on a page; logs of the late window may have arrived with it."""
        new = self._view.take(page, coverage.retention_floor)
        if new:
            self._view.has_changes = True
        return new

    def _resume(self, gap: Gap) -> Sweep:
        """Return a sweep from the upper end of a gap that an earlier poll has left."""
        by_time = self._view.feed.supports_time_filter
        place = Place(gap.depth)
        if by_time and gap.upper.created:
            place = Place(0, second_above(gap.upper.created))
        cursor = Cursor(place, gap.depth, gap.upper.created, frozenset((gap.upper.key,)))
        return Sweep(cursor, by_time=by_time, failure_count=gap.failure_count)

    def _caught_up(self, coverage: Coverage, since: int, page: LogPage) -> Coverage:
        """Return the coverage after a gap was closed by a page.

        Logs that expired unread since ``since`` are lost.
        """
        now = self._view.now()
        newest = coverage.newest.created if coverage.newest else None
        # A start after both the present and the newest log was set by a clock that was ahead.
        complete_since = min(coverage.complete_since, max(now, newest or 0))
        present = self._plausible_time(newest) if page.entries else now
        oldest_listed = present - self._view.feed.retention
        if since and since < oldest_listed:
            complete_since = max(complete_since, oldest_listed)
        caught_up_at = coverage.caught_up_at if coverage.gaps else now
        return msgspec.structs.replace(
            coverage, complete_since=complete_since, caught_up_at=caught_up_at
        )

    def _plausible_time(self, newest: int | None) -> int:
        """Return the API time; if even the newest log has expired by it, the time of that log."""
        now = self._view.now()
        if newest is None or newest > now - self._view.feed.retention:
            return now
        return newest


def _require_recognised(page: LogPage, coverage: Coverage, mark: int) -> None:
    """Raise UnrecognisedLogs if no log of a page without ids is known that should be.

    Those are the logs older than the mark that are in no gap, except those of the exporter itself.
    """
    if page.statuses or not page.without_ids or not coverage.is_synced:
        return
    read_count = 0
    for entry in page.entries:
        created = entry.created
        if created is None or entry.is_own:
            continue
        is_in_gap = any(gap.lower <= created <= gap.upper.created for gap in coverage.gaps)
        if coverage.retention_floor <= created < mark and not is_in_gap:
            read_count += 1
    if read_count >= MIN_UNRECOGNISED:
        raise UnrecognisedLogs("none of the logs that were counted before is recognised")


def _reaches(page: LogPage, mark: int) -> bool:
    """Return whether a page reaches a high-water mark.

    It has a known log older than the mark, or only older logs.
    """
    if max(page.times, default=mark) < mark:
        return True
    for entry in page.entries:
        if entry.created is not None and entry.created < mark and entry.key in page.statuses:
            return True
    return False


def _shrink(gap: Gap, page: LogPage, depth: int) -> Gap:
    """Return a gap after its next page, below which the index in the list is ``depth``."""
    upper = _oldest(page, gap.upper)
    if upper.created > gap.upper.created:
        return gap
    return Gap(upper, gap.lower, depth, gap.last_complete_at)


def _median(page: LogPage) -> ListPosition | None:
    """Return the median of the logs that have a time, by time; None if none has."""
    positions = sorted(
        (entry.created, entry.key) for entry in page.entries if entry.created is not None
    )
    return ListPosition(*positions[len(positions) // 2]) if positions else None


def _oldest(page: LogPage, default: ListPosition) -> ListPosition:
    """Return the position of the last log of a page that has a time."""
    for entry in reversed(page.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return default
