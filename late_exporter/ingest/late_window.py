"""Look for logs that appear late: which polls do, how far down, and whether the API's total shows that some are left.

The surplus is the total of the API less the number of counted logs. It falls as logs expire, and
rises only if a log has appeared that was not read.
"""

from __future__ import annotations

from late_exporter.ingest.catch_up import Reading
from late_exporter.ingest.poll_context import PollContext
from late_exporter.ingest.scan import Scan, ScanReader
from late_exporter.ingest.steps import StepsTo
from late_exporter.model import MINUTE_MS

LATE_POLLS = 3
"""Polls from one check of the late window to the next."""

RESTART_WINDOW = 60 * MINUTE_MS
"""Milliseconds that are read again before the last poll before a restart or an outage."""

MIN_OUTAGE = 15 * MINUTE_MS
"""Milliseconds without a complete poll from which logs may have arrived late before the last one."""

SURPLUS_POLLS = 6
"""Polls with whose totals a total is compared."""


class LateWindow:
    """Reads the newest part of the list again, every few polls in which something has changed.

    Args:
        surplus: Surplus at the last polls.
    """

    def __init__(self, context: PollContext, surplus: tuple[int, ...]) -> None:
        self._context = context
        self._reader = ScanReader(context, is_reconciliation=False)
        self.surplus = surplus
        self._poll_count = 0
        self._is_missing = False

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
        self._reader.scan, self.surplus = None, surplus
        self._context.has_changes = True

    def check(
        self, reading: Reading, since: int, page_count: int, deadline: float, *, is_first_poll: bool
    ) -> StepsTo[bool]:
        """Read the window if it is due; return whether logs are missing that are below it.

        Args:
            reading: What the poll has read.
            since: API time of the last poll before this one that has read everything; 0 if there is
                none.
            page_count: Maximum number of pages; 0 postpones the window.
            deadline: Monotonic time from which no page is read.
            is_first_poll: Whether logs may have arrived late while no process was running.
        """
        context, total = self._context, reading.head.total
        if total is not None and self.surplus:
            context.has_changes |= total - context.counted != self.surplus[-1]
        self._poll_count += 1
        if self._reader.scan is None and page_count:
            self._reader.scan = self._due_scan(reading, since, is_first_poll=is_first_poll)
        was_checked, has_changes = self._reader.scan is not None, context.has_changes
        yield from self._reader.advance(reading, page_count, deadline)
        context.has_changes = (
            has_changes  # What the window has found is no reason to read it again.
        )
        if total is None or self._reader.scan is not None:
            return False
        return self._are_logs_missing(total - context.counted, was_checked=was_checked)

    def _due_scan(self, reading: Reading, since: int, *, is_first_poll: bool) -> Scan | None:
        now, newest = self._context.fetcher.now(), reading.coverage.newest
        was_down = is_first_poll or 0 < since < now - max(self.age, MIN_OUTAGE)
        if not was_down and (not self._context.has_changes or self._poll_count < LATE_POLLS):
            return None
        self._context.has_changes, self._poll_count = False, 0
        # A clock that is ahead of all logs must not move the window.
        present = min(now, newest.created) if newest else now
        return Scan(
            now,
            min(since - RESTART_WINDOW if was_down else present, present - self.age),
            reading.reach,
        )

    def _are_logs_missing(self, surplus: int, *, was_checked: bool) -> bool:
        if surplus <= max(self.surplus, default=surplus):
            self._is_missing = False
            self.surplus = (*self.surplus, surplus)[-SURPLUS_POLLS:]
            return False
        if self._is_missing:  # The total may be ahead for once.
            self._is_missing, self.surplus = False, (surplus,)
            return True
        self._is_missing = was_checked
        return False
