"""Decide what a poll reads: the newest logs, the late window, pending logs, and a part of a scan.

Everything is a sweep with a start, a lower bound and a budget, and nothing is kept that is not
committed: every record is made with the coverage and the progress that are true once it is durable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from late_exporter.ingest.catch_up import CatchUp, Reading
from late_exporter.ingest.pending import PendingChecks
from late_exporter.ingest.scan import Scan, ScanReader
from late_exporter.ingest.steps import PollContext, Record, StepsTo
from late_exporter.model import MINUTE_MS

if TYPE_CHECKING:
    from late_exporter.ingest.sync import FeedView

LATE_POLLS = 3
"""Polls from one check of the late window to the next."""

RESTART_WINDOW = 60 * MINUTE_MS
"""Milliseconds that are read again before the last poll before a restart or an outage."""

MIN_OUTAGE = 15 * MINUTE_MS
"""Milliseconds without a complete poll from which logs may have arrived late before the last
one."""

SURPLUS_POLLS = 6
"""Polls with whose totals a total is compared."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is committed besides the coverage.

    Args:
        scan: Scan in progress.
        counted: Number of logs counted since the state was created.
        surplus: Total of the API less that number, at the last polls.
    """

    scan: Scan | None = None
    counted: int = 0
    surplus: tuple[int, ...] = ()


class Budget(msgspec.Struct, frozen=True):
    """Requests that a poll may add to those for new logs, and monotonic times.

    Args:
        pages: Pages of a scan.
        urgent_pages: Pages for logs that are missing or may be late.
        checks: Checks of pending logs.
        interrupt_at: Time from which a catch-up gives way to the newest logs.
        deadline: Time from which nothing is read that a later run can read.
    """

    pages: int = 1
    urgent_pages: int = 5
    checks: int = 10
    interrupt_at: float = 0.0
    deadline: float = math.inf


class FeedReader:
    """Reads one feed.

    Attributes:
        scans: Reader of reconciliation scans.
        is_first_poll: Whether no poll has succeeded yet.
    """

    def __init__(self, fetcher: FeedView, progress: Progress) -> None:
        self._fetcher = fetcher
        self._context = PollContext(fetcher, progress.counted)
        self._catch_up = CatchUp(self._context)
        self._late_window = LateWindow(self._context, progress.surplus)
        self._pending = PendingChecks(self._context)
        self.scans = ScanReader(self._context, progress.scan, is_reconciliation=True)
        self.is_first_poll = True

    @property
    def is_unfinished(self) -> bool:
        return self.scans.scan is not None or self._pending.is_unfinished

    @property
    def has_read_all(self) -> bool:
        """Whether late and pending logs were read without a failed or postponed request."""
        return not (self._late_window.is_unfinished or self._pending.is_behind)

    @property
    def progress(self) -> Progress:
        return Progress(self.scans.scan, self._context.counted, self._late_window.surplus)

    def restart(self, progress: Progress) -> None:
        """Continue from what is committed."""
        self.scans.scan = progress.scan
        self._context.counted = progress.counted
        self._context.has_changes = True
        self._late_window.restart(progress.surplus)

    def poll(self, budget: Budget) -> StepsTo[bool]:
        """Read what is new, and some of the rest.

        Only the newest logs and the gaps decide the outcome: any other request that fails is
        reported and tried again.

        Returns:
            Whether the poll gave way to the newest logs within a gap.
        """
        before = self._fetcher.coverage
        self._context.read_pending.clear()
        self.scans.completed = None
        self.scans.is_abandoned = False

        reading = yield from self._catch_up.read(budget.interrupt_at)
        if reading.is_partial:
            return True
        if reading.coverage.is_synced:
            caught_up_at = before.caught_up_at if before else 0
        else:
            reading = yield from self._complete_first_sync(reading, is_resumed=before is not None)
            caught_up_at = self._fetcher.now()

        is_missing = yield from self._late_window.check(
            reading, budget, caught_up_at, is_first_poll=self.is_first_poll
        )
        if is_missing:
            self.scans.scan = Scan(self._fetcher.now(), is_urgent=True)

        if budget.checks:
            young = self._fetcher.now()
            if self._context.has_changes and budget.urgent_pages:
                # Younger logs are settled by reading the late window.
                young -= self._late_window.age
            floor = reading.coverage.retention_floor
            yield from self._pending.settle(floor, budget.checks, young)

        is_urgent = self.scans.scan is not None and self.scans.scan.is_urgent
        page_count = budget.urgent_pages if is_urgent else budget.pages
        yield from self.scans.advance(reading, page_count, budget.deadline)
        self.is_first_poll = False
        return False

    def _complete_first_sync(self, reading: Reading, *, is_resumed: bool) -> StepsTo[Reading]:
        """Record that the first sync is complete.

        ``is_resumed`` is whether it took several polls.
        """
        coverage = msgspec.structs.replace(
            reading.coverage, is_synced=True, published_at=self._fetcher.now()
        )
        yield Record(coverage=coverage)
        # A first sync without an interruption has just read everything. After a resumed one, logs
        # may have arrived late above the place where it went on, as after a restart.
        self._context.has_changes = False
        self.is_first_poll = is_resumed
        return msgspec.structs.replace(reading, coverage=coverage)


class LateWindow:
    """Looks for logs that appear late.

    Every few polls in which something has changed, the newest part of the list is read again. If
    the API's total shows that more logs are left, all of it is. The surplus is that total less the
    number of counted logs. It falls as logs expire, and rises only if a log has appeared that was
    not read.

    Args:
        surplus: Surplus at the last polls.
    """

    def __init__(self, context: PollContext, surplus: tuple[int, ...]) -> None:
        self._context = context
        self._reader = ScanReader(context, is_reconciliation=False)
        self._poll_count = 0
        self._is_missing = False
        self.surplus = surplus

    @property
    def age(self) -> int:
        """Age in milliseconds up to which logs may appear late."""
        return int(self._context.fetcher.config.late_window * 1000)

    @property
    def is_unfinished(self) -> bool:
        """Whether a part of the window is still to be read."""
        return self._reader.scan is not None

    def restart(self, surplus: tuple[int, ...]) -> None:
        """Continue from what is committed."""
        self._reader.scan = None
        self.surplus = surplus

    def check(
        self, reading: Reading, budget: Budget, caught_up_at: int, *, is_first_poll: bool
    ) -> StepsTo[bool]:
        """Read the window if it is due; return whether logs are missing that are below it.

        Args:
            reading: What the poll has read.
            budget: Without urgent pages, the window is postponed.
            caught_up_at: API time of the last poll before this one that has read everything; 0 if
                there is none.
            is_first_poll: Whether logs may have arrived late while no process was running.
        """
        context = self._context
        total = reading.head.total
        if total is not None and self.surplus and total - context.counted != self.surplus[-1]:
            context.has_changes = True

        self._poll_count += 1
        page_count = LATE_POLLS * budget.urgent_pages
        if self._reader.scan is None and page_count:
            was_down = is_first_poll or self._was_out(caught_up_at)
            if was_down or (context.has_changes and self._poll_count >= LATE_POLLS):
                self._reader.scan = self._start(reading, caught_up_at, was_down=was_down)
        was_checked = self._reader.scan is not None
        yield from self._reader.advance(reading, page_count, budget.deadline)
        if total is None or self._reader.scan is not None:
            return False
        return self._are_logs_missing(total - context.counted, was_checked=was_checked)

    def _was_out(self, caught_up_at: int) -> bool:
        """Return whether no poll was complete for so long that logs may be late."""
        outage = self._context.fetcher.now() - caught_up_at
        return caught_up_at > 0 and outage > max(self.age, MIN_OUTAGE)

    def _start(self, reading: Reading, caught_up_at: int, *, was_down: bool) -> Scan:
        self._context.has_changes = False
        self._poll_count = 0
        now = self._context.fetcher.now()
        newest = reading.coverage.newest
        # A clock that is ahead of all logs must not move the window.
        present = min(now, newest.created) if newest else now
        until = present - self.age
        if was_down:
            until = min(until, caught_up_at - RESTART_WINDOW)
        return Scan(now, until, reading.reach)

    def _are_logs_missing(self, surplus: int, *, was_checked: bool) -> bool:
        """Compare the surplus with those of the last polls."""
        if surplus <= max(self.surplus, default=surplus):
            self._is_missing = False
            self.surplus = (*self.surplus, surplus)[-SURPLUS_POLLS:]
            return False
        if self._is_missing:  # The total may be ahead for once.
            self._is_missing = False
            self.surplus = (surplus,)
            return True
        self._is_missing = was_checked
        return False
