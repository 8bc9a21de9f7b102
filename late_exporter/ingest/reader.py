"""Decide what a poll reads: the newest logs, the late window, pending logs, and a part of a scan.

Everything is a sweep with a start, a lower bound and a budget, and nothing is kept that is not
committed: every record is made with the coverage and the progress that are true once it is durable.
"""

from __future__ import annotations

import msgspec

from late_exporter.ingest.catch_up import CatchUp, Reading
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.pending import PendingChecks
from late_exporter.ingest.scan import Scan, ScanReader
from late_exporter.ingest.steps import Record, StepsTo
from late_exporter.model import MINUTE_MS

LATE_POLLS = 3
"""Polls from one check of the late window to the next."""

RESTART_WINDOW = 60 * MINUTE_MS
"""Milliseconds that are read again before the last poll before a restart or an outage."""

MIN_OUTAGE = 15 * MINUTE_MS
"""Milliseconds without a complete poll from which logs may have arrived late before the last
one."""


class Budget(msgspec.Struct, frozen=True):
    """Requests that a poll may add to those for new logs, and monotonic times.

    Args:
        scan_pages: Pages of a scan.
        requests: Pages of the late window, on average, and requests for pending logs.
        interrupt_at: Time from which a catch-up gives way to the newest logs.
        deadline: Time from which nothing is read that a later run can read.
    """

    scan_pages: int
    requests: int
    interrupt_at: float
    deadline: float


class FeedReader:
    """Reads one feed.

    Attributes:
        scans: Reader of reconciliation scans.
        is_first_poll: Whether no poll has succeeded yet.
    """

    def __init__(self, view: FeedView, scan: Scan | None) -> None:
        self._view = view
        self._catch_up = CatchUp(view)
        self._late_window = LateWindow(view)
        self._pending = PendingChecks(view)
        self.scans = ScanReader(view, scan, is_reconciliation=True)
        self.is_first_poll = True

    @property
    def is_unfinished(self) -> bool:
        return self.scans.scan is not None or not self.has_read_all

    @property
    def has_read_all(self) -> bool:
        """Whether late and pending logs were read without a failed or postponed request."""
        return not (self._late_window.is_unfinished or self._pending.is_behind)

    def restart(self, scan: Scan | None) -> None:
        """Continue from what is committed: a scan, if one is in progress."""
        self.scans.scan = scan
        self._view.has_changes = True
        self._late_window.restart()

    def poll(self, budget: Budget) -> StepsTo[bool]:
        """Read what is new, and some of the rest.

        Only the newest logs and the gaps decide the outcome: any other request that fails is
        reported and tried again.

        Returns:
            Whether the poll gave way to the newest logs within a gap.
        """
        before = self._view.coverage
        self._view.read_pending.clear()
        self.scans.completed = None

        reading = yield from self._catch_up.read(budget.interrupt_at)
        if reading.coverage.gaps:
            return True
        if reading.coverage.is_synced:
            caught_up_at = before.caught_up_at if before else 0
        else:
            reading = yield from self._complete_first_sync(reading, is_resumed=before is not None)
            caught_up_at = self._view.now()

        yield from self._late_window.check(
            reading, budget, caught_up_at, is_first_poll=self.is_first_poll
        )
        young = self._view.now()
        if self._view.has_changes:
            # Younger logs are settled by reading the late window.
            young -= self._late_window.age
        floor = reading.coverage.retention_floor
        yield from self._pending.settle(floor, budget.requests, young)
        yield from self.scans.advance(reading, budget.scan_pages, budget.deadline)
        self.is_first_poll = False
        return False

    def _complete_first_sync(self, reading: Reading, *, is_resumed: bool) -> StepsTo[Reading]:
        """Record that the first sync is complete.

        ``is_resumed`` is whether it took several polls.
        """
        coverage = msgspec.structs.replace(
            reading.coverage, is_synced=True, published_at=self._view.now()
        )
        yield Record(coverage=coverage)
        # A first sync without an interruption has just read everything. After a resumed one, logs
        # may have arrived late above the place where it went on, as after a restart.
        self._view.has_changes = False
        self.is_first_poll = is_resumed
        return msgspec.structs.replace(reading, coverage=coverage)


class LateWindow:
    """Looks for logs that appear late.

    Every few polls in which something has changed, the newest part of the list is read again. The
    API's total shows a log that has appeared below the newest page.
    """

    def __init__(self, view: FeedView) -> None:
        self._view = view
        self._reader = ScanReader(view, is_reconciliation=False)
        self._poll_count = 0
        self._total: int | None = None

    @property
    def age(self) -> int:
        """Age in milliseconds up to which logs may appear late."""
        return int(self._view.config.late_window * 1000)

    @property
    def is_unfinished(self) -> bool:
        """Whether a part of the window is still to be read."""
        return self._reader.scan is not None

    def restart(self) -> None:
        """Begin the next window anew."""
        self._reader.scan = None

    def check(
        self, reading: Reading, budget: Budget, caught_up_at: int, *, is_first_poll: bool
    ) -> StepsTo[None]:
        """Read the window if it is due.

        Args:
            reading: What the poll has read.
            budget: Pages of the window, and the deadline.
            caught_up_at: API time of the last poll before this one that has read everything; 0 if
                there is none.
            is_first_poll: Whether logs may have arrived late while no process was running.
        """
        view = self._view
        total = reading.head.total
        if self._total is not None and total != self._total:
            view.has_changes = True
        self._total = total

        self._poll_count += 1
        if self._reader.scan is None:
            was_down = is_first_poll or self._was_out(caught_up_at)
            if was_down or (view.has_changes and self._poll_count >= LATE_POLLS):
                self._reader.scan = self._start(reading, caught_up_at, was_down=was_down)
        yield from self._reader.advance(reading, LATE_POLLS * budget.requests, budget.deadline)

    def _was_out(self, caught_up_at: int) -> bool:
        """Return whether no poll was complete for so long that logs may be late."""
        outage = self._view.now() - caught_up_at
        return caught_up_at > 0 and outage > max(self.age, MIN_OUTAGE)

    def _start(self, reading: Reading, caught_up_at: int, *, was_down: bool) -> Scan:
        self._view.has_changes = False
        self._poll_count = 0
        now = self._view.now()
        newest = reading.coverage.newest
        # A clock that is ahead of all logs must not move the window.
        present = min(now, newest.created) if newest else now
        until = present - self.age
        if was_down:
            until = min(until, caught_up_at - RESTART_WINDOW)
        return Scan(now, until, reading.reach)
