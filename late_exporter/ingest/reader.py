"""Decide what a poll reads: the newest logs, the late window, pending logs, and a part of a scan.

Everything is a sweep with a start, a lower bound and a budget, and nothing is kept that is not
committed: every record is made with the coverage and the progress that are true once it is durable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from late_exporter.ingest.catch_up import CatchUp
from late_exporter.ingest.late_window import LATE_POLLS, LateWindow
from late_exporter.ingest.pending import PendingChecks
from late_exporter.ingest.poll_context import PollContext
from late_exporter.ingest.scan import Scan, ScanReader
from late_exporter.ingest.steps import Record, StepsTo

if TYPE_CHECKING:
    from late_exporter.ingest.fetcher import Fetcher


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

    def __init__(self, fetcher: Fetcher, progress: Progress) -> None:
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
        """Whether the late window and the pending logs were read, with no request that failed or was postponed."""
        return not (self._late_window.is_unfinished or self._pending.is_behind)

    @property
    def progress(self) -> Progress:
        return Progress(self.scans.scan, self._context.counted, self._late_window.surplus)

    def restart(self, progress: Progress) -> None:
        """Continue from what is committed."""
        self.scans.scan, self._context.counted = progress.scan, progress.counted
        self._late_window.restart(progress.surplus)

    def poll(self, budget: Budget) -> StepsTo[bool]:
        """Read what is new, and some of the rest; return whether the poll gave way to the newest logs within a gap.

        Only the newest logs and the gaps decide the outcome: any other request that fails is
        reported and tried again.
        """
        context, fetcher = self._context, self._fetcher
        context.start_poll()
        self.scans.completed, self.scans.is_abandoned = None, False
        since, is_resumed = (
            fetcher.coverage.caught_up_at if fetcher.coverage else 0,
            fetcher.coverage is not None,
        )
        reading = yield from self._catch_up.read(budget.interrupt_at)
        if reading.is_partial:
            return True
        if not reading.coverage.is_synced:
            coverage = msgspec.structs.replace(
                reading.coverage, is_synced=True, published_at=fetcher.now()
            )
            reading = msgspec.structs.replace(reading, coverage=coverage)
            yield Record(coverage=coverage)
            # A first sync without an interruption has just read everything. After a resumed one,
            # logs may have arrived late above the place where it went on, as after a restart.
            context.has_changes = False
            self.is_first_poll = is_resumed
            since = fetcher.now()
        is_missing = yield from self._late_window.check(
            reading,
            since,
            LATE_POLLS * budget.urgent_pages,
            budget.deadline,
            is_first_poll=self.is_first_poll,
        )
        if is_missing:
            self.scans.scan = Scan(fetcher.now(), is_urgent=True)
        # Younger logs are settled by reading the late window.
        young = (
            fetcher.now() - self._late_window.age
            if context.has_changes and budget.urgent_pages
            else fetcher.now()
        )
        if budget.checks:
            yield from self._pending.settle(reading.coverage.retention_floor, budget.checks, young)
        is_urgent = self.scans.scan is not None and self.scans.scan.is_urgent
        yield from self.scans.advance(
            reading, budget.urgent_pages if is_urgent else budget.pages, budget.deadline
        )
        self.is_first_poll = False
        return False
