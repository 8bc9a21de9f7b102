"""Decide which pages of a log list to read, and when to stop.

Everything is a descent (``late_exporter.ingest.descend``) with a start, a lower bound and a budget:

- the newest logs, down to the high-water mark;
- a gap: the rest of such a descent that was interrupted, also by the end of the process. A first sync is a gap;
- the late window: on down to where logs may still appear late, every few polls in which something has changed;
- the sweep: some hours, or the whole list, again and again; its cursor is committed with what it has found.

Nothing is kept that is not committed: every record carries the coverage, or the sweep, that is true once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError, LateError
from late_exporter.ingest.descend import TOP, Cursor, Descent, Place, TimeFilter, above
from late_exporter.ingest.failures import RequestKind
from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.pending import PendingChecks
from late_exporter.model import MINUTE_MS, PAGE_OVERLAP, Coverage, Gap, ListPosition, LogEntry, PendingLog

MAX_PAGE_FAILURES = 3
"""Failed attempts to read a page after which it is read in parts."""

MAX_SWEEP_FAILURES = 6
"""Failed attempts to read a page, also in parts, after which a sweep ends; it waits twice as many polls each time."""

LATE_POLLS = 3
"""Polls from one check of the late window to the next."""

RESTART_WINDOW = 60 * MINUTE_MS
"""Milliseconds that are read again before the last poll before a restart or an outage."""

SURPLUS_POLLS = 6
"""Polls with whose totals a total is compared."""

RECONCILED_AGE = 60 * MINUTE_MS
"""Age in milliseconds from which a log that only a sweep has found was missed."""


MIN_UNRECOGNISED = 3
"""Logs of a page that are older than the high-water mark, none of which is known, that show that keys have changed."""


class UnrecognisedLogs(LateError):
    """The API shows the fields by which logs without ids are recognised in another form: all would count again."""


class Sweep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A descent in the background.

    Args:
        started_at: API time in milliseconds.
        until: Creation time down to which it reads; 0 for the whole list.
        cursor: Where it continues; None for the newest page.
        found: Number of logs that polls had missed.
        is_urgent: Whether the API has reported more logs than were read, so that it may use more requests.
    """

    started_at: int
    until: int = 0
    cursor: Cursor | None = None
    found: int = 0
    failure_count: int = 0
    is_urgent: bool = False


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is committed besides the coverage.

    Args:
        generation: API generation of the list, as places differ in another one.
        sweep: Sweep in progress.
        counted: Number of logs counted since the state was created.
        surplus: Total of the API less that number, at the last polls.
    """

    generation: str
    sweep: Sweep | None = None
    counted: int = 0
    surplus: tuple[int, ...] = ()


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that a poll may add to those for new logs, and monotonic times.

    Args:
        pages: Pages of a sweep.
        urgent_pages: Pages for logs that are missing or may be late.
        checks: Checks of pending logs.
        interrupt_at: Time from which a catch-up gives way to the newest logs.
        deadline: Time from which nothing is read that a later run can read; None for no limit.
    """

    pages: int = 1
    urgent_pages: int = 5
    checks: int = 10
    interrupt_at: float = 0.0
    deadline: float | None = None


class Recorder(Protocol):
    """Takes what was read."""

    async def record(
        self,
        entries: tuple[LogEntry, ...],
        *,
        coverage: Coverage | None = None,
        sweep: Sweep | None = None,
        deleted_keys: tuple[str, ...] = (),
        by_reconciliation: bool = False,
    ) -> None: ...

    @property
    def coverage(self) -> Coverage | None: ...

    @property
    def pending_logs(self) -> Mapping[str, PendingLog]: ...


class FeedReader:
    """Reads one feed.

    Attributes:
        sweep: Sweep in progress, as read; None if there is none.
        completed_sweep: Sweep that the last poll has completed.
        is_abandoned: Whether it has given up a sweep.
        is_first_poll: Whether no poll has succeeded yet: logs may have arrived late while no process was running.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        recorder: Recorder,
        *,
        monotonic: Callable[[], float],
        lookback: int,
        late_window: int,
        progress: Progress,
    ) -> None:
        self._fetcher = fetcher
        self._recorder = recorder
        self._monotonic = monotonic
        self.lookback = lookback
        self.late_window = late_window
        self._time_filter = TimeFilter(is_usable=fetcher.feed.supports_time_filter)
        self._pending = PendingChecks(fetcher, recorder, self._time_filter)
        self.sweep = progress.sweep
        self._counted, self._surplus = progress.counted, progress.surplus
        self.completed_sweep: Sweep | None = None
        self.is_abandoned = False
        self.is_first_poll = True
        self._window: Sweep | None = None
        self._reach = Cursor()
        self._changes = 0
        self._polls = 0
        self._is_missing = False
        self._head_failures = self._total = 0
        self._ends_at_head = False
        self._listed_pending = set[str]()
        self._poll_number = self._sweep_due_at = 0

    @property
    def has_unfinished_work(self) -> bool:
        return bool(self.sweep or self._window or self._is_missing or self._pending.is_unfinished)

    @property
    def progress(self) -> Progress:
        return Progress(self._fetcher.feed.generation, self.sweep, self._counted, self._surplus)

    def discard_unsaved(self, progress: Progress) -> None:
        """Continue from what is committed."""
        self.sweep, self._counted, self._surplus = progress.sweep, progress.counted, progress.surplus
        self._window, self._changes = None, self._changes + 1

    async def poll(self, budget: Budget) -> bool:
        """Read what is new, and some of the rest; return whether the poll gave way to the newest logs within a gap.

        Only the newest logs and the gaps decide the outcome: any other request that fails is reported and tried again.
        """
        self._poll_number += 1
        self.completed_sweep, self.is_abandoned, self._listed_pending = None, False, set()
        since = self._recorder.coverage.caught_up_at if self._recorder.coverage else 0
        head = await self._read_head()
        coverage, cursor = await self._record_head(head)
        while coverage.gaps:
            gap_count = len(coverage.gaps)
            coverage, cursor = await self._fill_gap(coverage, coverage.gaps[0], cursor, budget), None
            if len(coverage.gaps) == gap_count:
                return True
        if not coverage.is_synced:
            coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=self._now)
            await self._recorder.record((), coverage=coverage)
            self._changes, self.is_first_poll = 0, False  # All of it was just read.
        await self._check_late_window(head, coverage, budget, since)
        # Younger logs are settled by reading the late window.
        young = self._now - self.late_window if self._changes and budget.urgent_pages else self._now
        await self._pending.settle(self._listed_pending, coverage.retention_floor, budget.checks, young)
        await self._advance_sweep(head, coverage, budget)
        self.is_first_poll = False
        return False

    @property
    def _now(self) -> int:
        return self._fetcher.now()

    async def _fetch(self, place: Place, failure_count: int = 0) -> FetchedPage:
        """Fetch a page; if that has failed too often before, without the rows that the API cannot deliver."""
        try:
            return await self._fetcher.fetch(place)
        except REQUEST_FAILURES as exc:
            if failure_count + 1 < MAX_PAGE_FAILURES:
                raise
            try:
                return await self._fetcher.fetch(place, in_parts=True)
            except REQUEST_FAILURES:
                raise exc from None

    def _descend(self, cursor: Cursor, failure_count: int = 0) -> Descent[FetchedPage]:
        """Descend; ``failure_count`` is the number of earlier attempts to read the first page that failed."""
        descent = Descent(
            lambda place: self._fetch(place, 0 if descent.has_read else failure_count), cursor, self._time_filter
        )
        return descent

    async def _read_head(self) -> FetchedPage:
        try:
            head = await self._fetch(TOP, self._head_failures)
            if head.is_last and (head.page.total or 0) > len(head.entries):
                head = await self._fetch(TOP, self._head_failures)
        except REQUEST_FAILURES:
            self._head_failures += 1
            raise
        self._total, self._ends_at_head = max(self._total, head.page.total or 0), head.is_last
        if not head.has_unreadable:  # Otherwise every poll has to read around the same row.
            self._head_failures = 0
        return head

    async def _record_head(self, head: FetchedPage) -> tuple[Coverage, Cursor | None]:
        """Record the first page; if it does not reach the high-water mark, what lies between becomes a gap."""
        previous = self._recorder.coverage or self._initial_coverage(head)
        lower = previous.newest.created if previous.newest else previous.retention_floor
        self._require_recognised(head, previous, lower)
        new = head.new_entries(previous.retention_floor)
        self._reach = Cursor().below(head.page, by_time=self._time_filter.is_usable)
        gaps = tuple(msgspec.structs.replace(gap, depth=gap.depth + len(new)) for gap in previous.gaps)
        # A single row with a wrong time must not move the high-water mark.
        coverage = msgspec.structs.replace(previous, newest=head.page.median or previous.newest, gaps=gaps)
        is_known = bool(previous.newest) and not new
        cursor = None
        if is_known or head.reaches(lower) or (head.is_last and previous.is_synced):
            coverage = self._caught_up(coverage, previous.caught_up_at, head)
        else:
            cursor = self._reach
            upper = _oldest(head, ListPosition(self._now, ""))
            gap = Gap(upper, lower, cursor.depth, previous.caught_up_at)
            coverage = msgspec.structs.replace(coverage, gaps=(gap, *gaps))
        self._count(new, head)
        await self._recorder.record(new, coverage=coverage)
        return coverage, cursor

    def _require_recognised(self, page: FetchedPage, coverage: Coverage, mark: int) -> None:
        if page.statuses or not page.page.without_ids or not coverage.is_synced:
            return
        old = [created for created in page.times if coverage.retention_floor <= created < mark]
        if len(old) >= MIN_UNRECOGNISED:
            raise UnrecognisedLogs("none of the logs that were counted before is recognised")

    def _initial_coverage(self, head: FetchedPage) -> Coverage:
        newest, retention = max(head.times, default=None), self._fetcher.feed.retention
        now = self._plausible_time(newest)
        floor = now - min(self.lookback, retention)
        if newest is not None:
            # If the clock is ahead by more than the lookback, new logs would otherwise be taken for old ones.
            floor = min(floor, newest - min(self.lookback, self.late_window))
        return Coverage(retention_floor=floor, complete_since=floor, generation=self._fetcher.feed.generation)

    async def _fill_gap(self, coverage: Coverage, gap: Gap, start: Cursor | None, budget: Budget) -> Coverage:
        """Read a gap to its end; every recorded page shrinks it in the coverage. The first sync is a gap, too."""
        first, others = gap, coverage.gaps[1:]
        was_new = start is not None and not self._ends_at_head
        try:
            descent = self._descend(start or self._resume(gap), gap.failure_count)
            while True:
                page = await descent.read()
                cursor = descent.cursor
                self._require_recognised(page, coverage, gap.lower)
                new = page.new_entries(coverage.retention_floor)
                self._count(new, page)
                # Of a first sync, an end is believed at the total of the API, or if it is seen twice.
                is_believed = coverage.is_synced or 0 < self._total <= self._counted or not (new or was_new)
                is_end = page.reaches(gap.lower) or (descent.is_end and is_believed)
                was_new = bool(new)
                if is_end:
                    # Rows that were written since the gaps below were read are above them.
                    if start is not None:
                        self._reach = cursor
                    coverage = msgspec.structs.replace(coverage, gaps=others)
                    coverage = self._caught_up(coverage, gap.last_complete_at, page)
                else:
                    upper = _oldest(page, gap.upper)
                    if upper.created <= gap.upper.created:
                        gap = Gap(upper, gap.lower, cursor.depth, gap.last_complete_at)
                    others = tuple(msgspec.structs.replace(each, depth=each.depth + len(new)) for each in others)
                    coverage = msgspec.structs.replace(coverage, gaps=(gap, *others))
                await self._recorder.record(new, coverage=coverage)
                if is_end or (gap.upper.created < first.upper.created and self._monotonic() > budget.interrupt_at):
                    return coverage
        except REQUEST_FAILURES:
            failed = msgspec.structs.replace(gap, failure_count=gap.failure_count + 1)
            await self._recorder.record((), coverage=msgspec.structs.replace(coverage, gaps=(failed, *others)))
            raise

    def _resume(self, gap: Gap) -> Cursor:
        """Return the cursor at the upper end of a gap that an earlier poll has left."""
        place = Place(max(0, gap.depth - PAGE_OVERLAP))
        if self._time_filter.is_usable and gap.upper.created:
            place = Place(0, above(gap.upper.created))
        return Cursor(place, gap.depth, gap.upper.created, frozenset((gap.upper.key,)))

    def _caught_up(self, coverage: Coverage, since: int, page: FetchedPage) -> Coverage:
        """Return the coverage after a gap was closed by a page; logs that expired unread since ``since`` are lost."""
        # A start after both the present and the newest log was set by a clock that was ahead.
        newest = coverage.newest.created if coverage.newest else None
        complete_since = min(coverage.complete_since, max(self._now, newest or 0))
        oldest_listed = self._plausible_time(newest if page.entries else None) - self._fetcher.feed.retention
        if since and since < oldest_listed:
            complete_since = max(complete_since, oldest_listed)
        caught_up_at = coverage.caught_up_at if coverage.gaps else self._now
        return msgspec.structs.replace(coverage, complete_since=complete_since, caught_up_at=caught_up_at)

    def _plausible_time(self, newest: int | None) -> int:
        """Return the API time, or that of the newest log: a clock by which even that one has expired is wrong."""
        now = self._now
        return now if newest is None or newest > now - self._fetcher.feed.retention else newest

    def _count(self, new: tuple[LogEntry, ...], page: FetchedPage) -> None:
        self._changes += bool(new)
        self._counted += sum(entry.key not in page.statuses for entry in new)
        if self._recorder.pending_logs:
            self._listed_pending |= self._recorder.pending_logs.keys() & {entry.key for entry in page.entries}

    async def _check_late_window(self, head: FetchedPage, coverage: Coverage, budget: Budget, since: int) -> None:
        """Read on below the newest logs, every few polls in which something has changed.

        If logs are missing after that, by the total of the API, a sweep looks for them; a total may be ahead for once.
        """
        total, expected = head.page.total, max(self._surplus, default=None)
        if total is not None and self._surplus:
            self._changes += total - self._counted != self._surplus[-1]
        self._polls += 1
        was_down = self.is_first_poll or 0 < since < self._now - self.late_window
        is_due = (self._changes and self._polls >= LATE_POLLS) or was_down
        if self._window is None and is_due and budget.urgent_pages:
            # A clock that is ahead of all logs must not move the window.
            present = min(self._now, coverage.newest.created) if coverage.newest else self._now
            until = since - RESTART_WINDOW if was_down else present
            self._window = Sweep(self._now, min(until, present - self.late_window), self._reach)
            self._changes = self._polls = 0
        was_checked = self._window is not None
        if self._window is not None:
            changes, pages = self._changes, LATE_POLLS * budget.urgent_pages
            self._window = await self._advance(self._window, head, coverage, pages, budget)
            self._changes = changes
        if total is None or self._window is not None:
            return
        surplus = total - self._counted
        if expected is None or surplus <= expected:
            self._is_missing = False
            self._surplus = (*self._surplus, surplus)[-SURPLUS_POLLS:]
        elif self._is_missing:
            self._is_missing = False
            self._surplus = (surplus,)
            self.sweep = Sweep(self._now, is_urgent=True)
        else:
            self._is_missing = was_checked

    async def _advance_sweep(self, head: FetchedPage, coverage: Coverage, budget: Budget) -> None:
        sweep = self.sweep
        if sweep is None or self._poll_number < self._sweep_due_at:
            return
        pages = budget.urgent_pages if sweep.is_urgent else budget.pages
        self.sweep = await self._advance(sweep, head, coverage, pages, budget, is_sweep=True)

    async def _advance(
        self, sweep: Sweep, head: FetchedPage, coverage: Coverage, pages: int, budget: Budget, *, is_sweep: bool = False
    ) -> Sweep | None:
        """Read some pages of a sweep; return it, or None if it is complete."""
        lower = max(coverage.retention_floor, sweep.until)
        cursor = sweep.cursor or Cursor().below(head.page, by_time=self._time_filter.is_usable)
        if (head.is_last and not coverage.gaps) or head.crosses(lower):
            self.completed_sweep = sweep if is_sweep else self.completed_sweep
            return None
        try:
            if pages <= 0 or self._is_past(budget.deadline):
                return sweep
            descent = self._descend(cursor, sweep.failure_count)
            while True:
                page = await descent.read()
                new = page.new_entries(coverage.retention_floor)
                parts: tuple[list[LogEntry], list[LogEntry]] = ([], [])
                for entry in new:
                    parts[is_sweep and self._is_missed(entry)].append(entry)
                normal, missed = parts
                pages -= 1
                found = sweep.found + sum(entry.key not in page.statuses for entry in missed)
                sweep = msgspec.structs.replace(sweep, cursor=descent.cursor, found=found, failure_count=0)
                is_end = descent.is_end or page.crosses(lower)
                self._count(new, page)
                await self._recorder.record(tuple(normal))
                await self._recorder.record(tuple(missed), sweep=sweep if is_sweep else None, by_reconciliation=True)
                if is_end:
                    self.completed_sweep = sweep if is_sweep else self.completed_sweep
                    return None
                if pages <= 0 or self._is_past(budget.deadline):
                    return sweep
        except REQUEST_FAILURES as exc:
            self._report("scan", exc)
            failure_count = sweep.failure_count + 1
            if failure_count > MAX_SWEEP_FAILURES:
                self.is_abandoned |= is_sweep
                return None
            if is_sweep:
                self._sweep_due_at = self._poll_number + 2 ** (failure_count - 1)
            return msgspec.structs.replace(sweep, failure_count=failure_count)

    def _is_missed(self, entry: LogEntry) -> bool:
        return entry.created is not None and entry.created < self._now - RECONCILED_AGE

    def _is_past(self, deadline: float | None) -> bool:
        return deadline is not None and self._monotonic() >= deadline

    def _report(self, kind: RequestKind, error: ApiError) -> None:
        self._fetcher.failure_reporter.report_failure(kind, error.without_frames())


def _oldest(page: FetchedPage, default: ListPosition) -> ListPosition:
    """Return the position of the last log of a page that has a time."""
    for entry in reversed(page.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return default
