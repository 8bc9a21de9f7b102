"""Input of a poll, and the state that the reader keeps from poll to poll."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from late_exporter.ingest.paging import MAX_SKIP, MAX_WHOLE_SKIP, PagePosition
from late_exporter.ingest.request_queue import RequestQueue
from late_exporter.ingest.steps import FetchedPage
from late_exporter.ingest.stretch import Stretch, WindowCounter
from late_exporter.model import LATE, MINUTE_MS, Coverage, ListPosition, LogEntry, PendingLog

LATE_WINDOW_MS = 15 * MINUTE_MS
"""Default of ``PollContext.late_window``."""


class PageCursor(msgspec.Struct, frozen=True):
    """Place in the list at which to resume reading.

    The list moves between two reads, so ``position`` alone is only a hint: the next page must contain one of
    ``anchors`` or span the time ``created``.

    Args:
        page_keys: Keys of the page before.
        created: Time of the last log of the page before, in milliseconds.
        repeat_count: Number of consecutive pages that contained the same logs.
        anchors: Keys of the logs by which a page that continues the last one is recognised.
        tail_start: Time of the last log if all logs with a time were read, so that only logs without one can follow.
        failure_count: Number of attempts to read the page that failed.
        vain_count: Number of pages found above their position since one led further than all before.
        reach: Largest depth, and smallest time in milliseconds, to which pages have led; None before the first one.
    """

    position: PagePosition = PagePosition()
    page_keys: frozenset[str] = frozenset()
    created: int = 0
    repeat_count: int = 0
    anchors: frozenset[str] = frozenset()
    tail_start: int | None = None
    failure_count: int = 0
    vain_count: int = 0
    reach: tuple[int, int] | None = None


class WindowReading(msgspec.Struct):
    """Time window that is being read.

    Args:
        cursor: Place at which the stretch continues.
        lower: Creation time down to which it is read.
    """

    stretch: Stretch
    cursor: PageCursor
    lower: int


class WindowComparison(msgspec.Struct):
    """Search for time windows in which the API and the store have different numbers of logs.

    Args:
        windows: First and last millisecond of the windows to compare, newest last.
        readings: Windows that differ and are to be read, newest first.
    """

    windows: list[tuple[int, int]] = msgspec.field(default_factory=list)
    readings: list[WindowReading] = msgspec.field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not self.windows and not self.readings


class LateWindow(msgspec.Struct):
    """State of the checks of the late window: the time in which logs still appear with an older time than others.

    Args:
        surplus: Lowest and highest possible number of logs that the API has and the store has not, at the last poll.
        change_count: Number of polls since which logs have appeared or disappeared.
        checked_count: Number of them before the last complete check began.
        poll_count: Number of polls since the last check began.
        page_credit: Number of pages that the polls since then may read.
        checked_until: Creation time of the high-water mark at that check.
        comparison: Check in progress; None if there is none.
        comparison_start: Number of changes before it began.
    """

    surplus: tuple[int, int] | None = None
    change_count: int = 0
    checked_count: int = 0
    poll_count: int = 0
    page_credit: int = 0
    checked_until: int = 0
    comparison: WindowComparison | None = None
    comparison_start: int = 0

    @property
    def has_changed(self) -> bool:
        return self.change_count > self.checked_count

    def observe(self, surplus: tuple[int, int] | None, *, has_new: bool) -> None:
        """Note whether logs have appeared or disappeared since the last poll."""
        previous, self.surplus = self.surplus, surplus
        is_different = (
            previous is not None and surplus is not None and (surplus[0] > previous[1] or surplus[1] < previous[0])
        )
        self.change_count += has_new or is_different
        self.poll_count += 1

    def complete(self, change_count: int) -> None:
        """Note that everything that had changed before a check has been looked at."""
        self.comparison, self.checked_count = None, change_count

    def discard(self) -> None:
        """Check everything again, because what a check has found was not saved."""
        self.comparison, self.checked_count = None, -1


class ReconcileScan(msgspec.Struct):
    """Scan below the high-water mark for logs that polls missed; it continues from poll to poll.

    Args:
        target_count: Stop after this many missing logs were found; None scans regardless of what is found.
        lower: Stop at logs older than this time; None scans to the end of the list.
        caught_up_at: Time at which the high-water mark had last been reached before the scan; later arrivals are
            normal, not missed.
        started_at: API time in milliseconds at which a scheduled scan started; 0 for another one, or if some of what
            it found could not be saved.
        comparison: Time windows that are compared in place of reading the list; None if it is read.
        depth: Age in milliseconds down to which a scheduled scan reads; None for the whole list.
    """

    target_count: int | None = None
    lower: int | None = None
    caught_up_at: int = 0
    started_at: int = 0
    cursor: PageCursor = PageCursor()
    comparison: WindowComparison | None = None
    is_complete: bool = False
    depth: int | None = None

    @property
    def is_regular(self) -> bool:
        """True for a scheduled scan, False for one that looks for logs known to be missing."""
        return self.target_count is None and self.lower is None


class PendingScan(msgspec.Struct):
    """Scan of the list of pending logs, one page per poll.

    Args:
        pending_keys: Keys of the logs that were pending when the scan started; later ones need not be listed.
        page_keys: Keys of the page before.
        has_moved: Whether two pages shared no log, or a row was left out, so that the scan may have missed some.
        total: Number of logs of the list at the page before; None if not reported.
    """

    skip: int = 0
    pending_keys: frozenset[str] = frozenset()
    listed_keys: set[str] = msgspec.field(default_factory=set)
    page_keys: frozenset[str] = frozenset()
    has_moved: bool = False
    total: int | None = None


class SurplusDetector:
    """Detect from ``pagination.total`` that the API has more logs than the store.

    Deletions lower the surplus at any time, and expiring logs make it uncertain. Only if the lowest possible surplus is
    above every surplus of the last minutes, a log has appeared that polls did not see.
    """

    WINDOW = 180_000

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int]] = deque()

    def missing_count(self, now: int, lowest: int, highest: int) -> int:
        """Return how many logs must have been missed.

        Args:
            now: API time in milliseconds.
            lowest: Lower bound of the total minus the number of stored logs.
            highest: Upper bound of the same difference.
        """
        while len(self._recent) > 1 and self._recent[0][0] < now - self.WINDOW:
            self._recent.popleft()
        baseline = self._recent[0][1] if self._recent else lowest
        while self._recent and self._recent[-1][1] <= highest:  # It cannot be the highest any more.
            self._recent.pop()
        self._recent.append((now, highest))
        return max(0, lowest - baseline)


class ReaderState(msgspec.Struct):
    """State of the reader between two polls.

    Args:
        is_first_poll: Whether no poll of this process has succeeded yet; logs may have arrived late while it was down.
        max_skip: Rows to skip before pages are requested by time, if the list can be filtered by time.
        max_whole_skip: Rows to skip at most to look for logs without a time behind all others.
        ignores_time_filter: Whether the API ignores or rejects the time filter although it should support it.
        scan_stretch: What the scan has read since the process started; None before its first page.
        last_full_scan: API time in milliseconds at which the last scan that reads the whole list began; 0 if none has.
        undated_count: Lowest number of logs without a time in the list since then, as far as the API counts them.
        largest_total: Largest number of logs that the API has reported during the first sync.
        vain_bound_count: Number of bounds in a row that did not lead to the page that continues at a cursor.
        head_failure_count: Number of attempts to read the first page that failed since it was last read whole.
        rejected_times: Times for which the API rejected a settlement check since it last accepted one.
        dense_time: Last time that was read as a whole; None if it is to be read again.
        missed_keys: Keys of pending logs that were not found where they should be; those missed twice are gone.
        queue: Order of the requests that do not decide the outcome of a poll.
    """

    is_first_poll: bool = True
    scan: ReconcileScan | None = None
    pending_scan: PendingScan = msgspec.field(default_factory=PendingScan)
    surplus_detector: SurplusDetector = msgspec.field(default_factory=SurplusDetector)
    late_window: LateWindow = msgspec.field(default_factory=LateWindow)
    window_counter: WindowCounter = msgspec.field(default_factory=WindowCounter)
    scan_stretch: Stretch | None = None
    last_full_scan: int = 0
    undated_count: int = 0
    largest_total: int = 0
    max_skip: int = MAX_SKIP
    max_whole_skip: int = MAX_WHOLE_SKIP
    ignores_time_filter: bool = False
    vain_bound_count: int = 0
    head_failure_count: int = 0
    rejected_times: frozenset[int] = frozenset()
    dense_time: int | None = None
    missed_keys: frozenset[str] = frozenset()
    queue: RequestQueue = msgspec.field(default_factory=RequestQueue)


class PollContext(msgspec.Struct, kw_only=True):
    """Input of one poll, and what it has read.

    Args:
        now: API time in milliseconds; updated after each page.
        retention: Time for which the API keeps a log, in milliseconds.
        lookback: Depth of the first sync, in milliseconds.
        late_window: Age in milliseconds up to which logs that appear late are looked for in every few polls.
        coverage: Coverage last committed; None before the first sync.
        pending_logs: Logs that were pending when last seen, by key.
        settlement_budget: Maximum number of settlement checks, each of a post or a creation time.
        generation: API generation of the list.
        supports_time_filter: Whether pages can be requested, and settlement checked, by time.
        page_budget: Maximum number of pages of a regular scan, and of one that looks for missing logs.
        state: State from the last poll; updated in place.
        stretch: Newest logs that this poll has read, down to the high-water mark.
        cursor: Place at which the stretch continues.
        list_end: Log after which the list seemed to end during a first sync; None if it was read to another end.
        new_count: Number of new logs that this poll has read.
        uncommitted_keys: Keys of the new logs among them that the store does not know yet; a catch-up can read more
            logs than memory should hold.
    """

    now: int
    retention: int
    lookback: int
    coverage: Coverage | None
    pending_logs: Mapping[str, PendingLog]
    settlement_budget: int = 10
    generation: str = LATE
    supports_time_filter: bool = False
    page_budget: tuple[int, int] = (1, 10)
    late_window: int = LATE_WINDOW_MS
    state: ReaderState = msgspec.field(default_factory=ReaderState)
    stretch: Stretch = msgspec.field(default_factory=lambda: Stretch(-1))
    cursor: PageCursor = PageCursor()
    list_end: ListPosition | None = None
    new_count: int = 0
    uncommitted_keys: set[str] = msgspec.field(default_factory=set)

    @property
    def max_skip(self) -> int | None:
        """Rows to skip before pages are requested by time; None if the list cannot be filtered by time."""
        return self.state.max_skip if self.supports_time_filter and not self.state.ignores_time_filter else None

    def surplus(self, head: FetchedPage) -> tuple[int, int] | None:
        """Return the lowest and the highest possible number of logs that the API has and the store has not.

        None if the API does not report its number of logs, or not all of them were read.
        """
        coverage, known_logs = self.coverage, head.known_logs
        if head.total is None or coverage is None or coverage.gaps or not coverage.is_synced:
            return None
        lowest = head.total - known_logs.stored_count - self.new_count
        return lowest, lowest + known_logs.expiring_count

    def new_entries(self, page: FetchedPage, retention_floor: int) -> tuple[LogEntry, ...]:
        """Return the new observations of a page, and count the new logs among them."""
        entries = page.new_entries(retention_floor)
        statuses = page.known_logs.statuses
        new_keys = {entry.key for entry in entries if entry.key not in statuses} - self.uncommitted_keys
        self.new_count += len(new_keys)
        self.uncommitted_keys |= new_keys
        return entries
