"""Read the newest logs of a list and the gaps below them, which decide the outcome of a poll.

A gap is the rest of a sweep that was interrupted, also by the end of the process; the first sync is
one. Every page is recorded with the coverage that is true once it is durable.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from late_exporter.errors import REQUEST_FAILURES, UnrecognisedLogs
from late_exporter.ingest.poll_context import PollContext, new_entries, reaches
from late_exporter.ingest.steps import Record, StepsTo
from late_exporter.ingest.sweep import Cursor, Place, Sweep, second_above
from late_exporter.model import PAGE_OVERLAP, LogPage
from late_exporter.store.records import Coverage, Gap, ListPosition

MIN_UNRECOGNISED = 3
"""Logs of a page that were read before, none of which is known, that show that keys have changed."""


class Reading(msgspec.Struct, frozen=True):
    """What a poll has read.

    Args:
        head: Page of the newest logs.
        below_head: Cursor below that page.
        reach: Cursor below all that was read from the top.
        is_partial: Whether the poll gave way to the newest logs within a gap.
    """

    head: LogPage
    coverage: Coverage
    below_head: Cursor
    reach: Cursor
    is_partial: bool


class CatchUp:
    """Reads what is new."""

    def __init__(self, context: PollContext) -> None:
        self._context = context
        self._fetcher = context.fetcher
        self._head_failures = 0

    def read(self, interrupt_at: float) -> StepsTo[Reading]:
        """Read the newest logs, then the gaps, until a monotonic time at which the newest ones are due again."""
        sweep = Sweep(self._context.time_filter, failure_count=self._head_failures)
        try:
            head = yield from sweep.read()
        except REQUEST_FAILURES:
            self._head_failures += 1
            raise
        if not head.has_unreadable:  # Otherwise every poll has to read around the same row.
            self._head_failures = 0
        below_head = sweep.cursor
        coverage, goes_on = yield from self._record_head(head, sweep.cursor.depth)
        is_partial = False
        while coverage.gaps and not is_partial:
            gap_sweep = sweep if goes_on else self._resume(coverage.gaps[0])
            coverage, is_partial = yield from self._read_gap(coverage, gap_sweep, interrupt_at)
            goes_on = False
        return Reading(head, coverage, below_head, sweep.cursor, is_partial)

    def _record_head(self, head: LogPage, depth: int) -> StepsTo[tuple[Coverage, bool]]:
        """Record the first page; if it does not reach the high-water mark, what lies between becomes a gap.

        Args:
            head: The page.
            depth: Index of its last log in the list.

        Returns:
            The coverage, and whether there is such a gap.
        """
        previous = self._fetcher.coverage or self._initial_coverage(head)
        lower = previous.newest.created if previous.newest else previous.retention_floor
        _require_recognised(head, previous, lower)
        new = new_entries(head, previous.retention_floor)
        # A single row with a wrong time must not move the high-water mark.
        gaps, newest = _deepen(previous.gaps, len(new)), _median(head) or previous.newest
        coverage = msgspec.structs.replace(previous, newest=newest, gaps=gaps)
        is_known = bool(previous.newest) and not new
        if is_known or reaches(head, lower) or (head.is_last and previous.is_synced):
            has_gap, coverage = False, self._caught_up(coverage, previous.caught_up_at, head)
        else:
            gap = Gap(
                _oldest(head, ListPosition(self._fetcher.now(), "")),
                lower,
                depth,
                previous.caught_up_at,
            )
            has_gap, coverage = True, msgspec.structs.replace(coverage, gaps=(gap, *gaps))
        self._context.add(head, new)
        yield Record(new, coverage)
        return coverage, has_gap

    def _initial_coverage(self, head: LogPage) -> Coverage:
        newest = max(head.times, default=None)
        feed = self._fetcher.feed
        config = self._fetcher.config
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
        first_upper, may_have_more = coverage.gaps[0].upper.created, not sweep.is_end
        try:
            while True:
                page = yield from sweep.read()
                gap = coverage.gaps[0]
                _require_recognised(page, coverage, gap.lower)
                new = new_entries(page, coverage.retention_floor)
                self._context.add(page, new)
                # The end of the list must be seen twice before a first sync is complete.
                is_end = sweep.is_end and (coverage.is_synced or not (new or may_have_more))
                may_have_more = bool(new)
                if is_end or reaches(page, gap.lower):
                    coverage = msgspec.structs.replace(coverage, gaps=coverage.gaps[1:])
                    coverage = self._caught_up(coverage, gap.last_complete_at, page)
                    yield Record(new, coverage)
                    return coverage, False
                coverage = _shrink(coverage, page, sweep.cursor.depth, len(new))
                yield Record(new, coverage)
                if (
                    coverage.gaps[0].upper.created < first_upper
                    and self._fetcher.monotonic() > interrupt_at
                ):
                    return coverage, True
        except REQUEST_FAILURES:
            gap, *others = coverage.gaps
            failed = msgspec.structs.replace(gap, failure_count=gap.failure_count + 1)
            yield Record(coverage=msgspec.structs.replace(coverage, gaps=(failed, *others)))
            raise

    def _resume(self, gap: Gap) -> Sweep:
        """Return a sweep from the upper end of a gap that an earlier poll has left."""
        time_filter = self._context.time_filter
        place = Place(max(0, gap.depth - PAGE_OVERLAP))
        if time_filter.is_usable and gap.upper.created:
            place = Place(0, second_above(gap.upper.created))
        cursor = Cursor(place, gap.depth, gap.upper.created, frozenset((gap.upper.key,)))
        return Sweep(time_filter, cursor, failure_count=gap.failure_count)

    def _caught_up(self, coverage: Coverage, since: int, page: LogPage) -> Coverage:
        """Return the coverage after a gap was closed by a page; logs that expired unread since ``since`` are lost."""
        # A start after both the present and the newest log was set by a clock that was ahead.
        newest, now = coverage.newest.created if coverage.newest else None, self._fetcher.now()
        complete_since = min(coverage.complete_since, max(now, newest or 0))
        oldest_listed = (
            self._plausible_time(newest if page.entries else None) - self._fetcher.feed.retention
        )
        if since and since < oldest_listed:
            complete_since = max(complete_since, oldest_listed)
        caught_up_at = coverage.caught_up_at if coverage.gaps else now
        return msgspec.structs.replace(
            coverage, complete_since=complete_since, caught_up_at=caught_up_at
        )

    def _plausible_time(self, newest: int | None) -> int:
        """Return the API time, or that of the newest log: a clock by which even that one has expired is wrong."""
        now = self._fetcher.now()
        return now if newest is None or newest > now - self._fetcher.feed.retention else newest


def _require_recognised(page: LogPage, coverage: Coverage, mark: int) -> None:
    """Raise UnrecognisedLogs if a page without ids has logs older than the mark and in no gap, and none is known."""
    if page.statuses or not page.without_ids or not coverage.is_synced:
        return

    def is_read(created: int) -> bool:
        is_in_gap = any(gap.lower <= created <= gap.upper.created for gap in coverage.gaps)
        return coverage.retention_floor <= created < mark and not is_in_gap

    if sum(map(is_read, page.times)) >= MIN_UNRECOGNISED:
        raise UnrecognisedLogs("none of the logs that were counted before is recognised")


def _deepen(gaps: Sequence[Gap], count: int) -> tuple[Gap, ...]:
    """Return gaps below a number of new logs."""
    return tuple([msgspec.structs.replace(gap, depth=gap.depth + count) for gap in gaps])


def _shrink(coverage: Coverage, page: LogPage, depth: int, new_count: int) -> Coverage:
    """Return the coverage after a page of its newest gap, below which the index in the list is ``depth``."""
    gap, *others = coverage.gaps
    upper = _oldest(page, gap.upper)
    if upper.created <= gap.upper.created:
        gap = Gap(upper, gap.lower, depth, gap.last_complete_at)
    return msgspec.structs.replace(coverage, gaps=(gap, *_deepen(others, new_count)))


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
