"""What the reader is asked to do, what it asks for in turn, and what it remembers from poll to poll."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from typing import TypeAlias

import msgspec

from late_exporter.model import Coverage, KnownLogs, LogEntry, LogPage, PendingLog

__all__ = [
    "FetchPage",
    "FetchPost",
    "FetchWindow",
    "FetchedPage",
    "PageCursor",
    "PendingScan",
    "PollContext",
    "ReaderStep",
    "ReaderSteps",
    "ReconcileScan",
    "Record",
    "SurplusDetector",
]


class FetchPage(msgspec.Struct, frozen=True):
    """Step: read a page of the list. Sent back: Seen."""

    skip: int
    status: str | None = None


class FetchPost(msgspec.Struct, frozen=True):
    """Step: read the logs of one post. Sent back: Seen, or None where there is no such post."""

    post_id: str


class FetchWindow(msgspec.Struct, frozen=True):
    """Step: read a page of the logs created at a time, in milliseconds. Sent back: Seen."""

    created: int
    skip: int = 0


class Record(msgspec.Struct, frozen=True):
    """Step: count these entries and make the coverage durable with them. Sent back: None.

    ``by_reconciliation``: only a walk over known ground found them, though polls before could have. ``splits_timestamp``: the page ended
    among logs of one time, where it is hard to go on at another time.
    """

    entries: tuple[LogEntry, ...]
    coverage: Coverage | None = None
    deleted_keys: tuple[str, ...] = ()
    by_reconciliation: bool = False
    splits_timestamp: bool = False


class FetchedPage(msgspec.Struct, frozen=True):
    """A page, and what the state knew of its logs."""

    page: LogPage
    known_logs: KnownLogs

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """The entries of the page."""
        return self.page.entries

    def new_entries(self, retention_floor: int) -> tuple[LogEntry, ...]:
        """The sightings that the state does not know, of logs that are in scope."""
        return tuple(
            entry
            for entry in self.entries
            if entry.status not in self.known_logs.statuses.get(entry.key, ())
            and (entry.created is None or entry.created >= retention_floor)
        )


ReaderStep: TypeAlias = FetchPage | FetchPost | FetchWindow | Record
"""What the reader asks for."""

ReaderSteps: TypeAlias = Generator[ReaderStep, FetchedPage | None, None]
"""What the reader yields and is sent."""


class PageCursor(msgspec.Struct, frozen=True):
    """Where the next page begins: it has to hold one of ``anchors``, or to span the time ``created``.

    ``page_keys`` are those of the page before; ``repeat_count``: how many pages in a row have held the same logs.
    """

    skip: int = 0
    page_keys: frozenset[str] = frozenset()
    created: int = 0
    repeat_count: int = 0
    anchors: frozenset[str] = frozenset()


class ReconcileScan(msgspec.Struct):
    """A walk over known ground in search of logs that were missed; it goes on from poll to poll.

    Args:
        target_count: Stop once so many have been found; None: however many there are.
        lower: Stop at logs before this time; None: walk to the end of the list.
        caught_up_at: When known ground had last been reached as the walk began; a log may have come late after that.
        started_at: API time in milliseconds at which a walk over the whole list began; 0 where it is none, or where some of
            what it found could not be saved.
    """

    target_count: int | None = None
    lower: int | None = None
    caught_up_at: int = 0
    started_at: int = 0
    cursor: PageCursor = PageCursor()
    is_complete: bool = False


class PendingScan(msgspec.Struct):
    """The list of pending logs, of which each poll reads a page: where the next one begins, and who was listed.

    ``window_unsupported``: the list cannot be asked for the logs of a time, though it should.
    """

    skip: int = 0
    listed_keys: set[str] = msgspec.field(default_factory=set)
    window_unsupported: bool = False


class PollContext(msgspec.Struct, kw_only=True):
    """What a poll is to do.

    Args:
        now: API time in milliseconds; it may be set anew until the first page is there.
        retention: How long the API keeps a log, in milliseconds.
        lookback: How far back the first sync reads, in milliseconds.
        coverage: As last made durable; None before the first sync.
        pending_logs: Logs that were pending when last seen.
        first_poll: The first poll of a process: logs may have come late while nobody looked.
        lookup_budget: How many posts, or times, may be asked for what became of their pending logs.
        generation: Of the API that is read.
        supports_time_filter: The list can be asked for the logs of a time; there are no posts to ask for then.
        page_budget: How many pages a walk may read, and how many one that seeks something.
        scan: The walk under way; the poll may begin one.
        surplus_detector: Judges ``pagination.total``.
        new_keys: New logs that the poll has read.
        pending_scan: How far the list of pending logs has been read.
    """

    now: int
    retention: int
    lookback: int
    coverage: Coverage | None
    pending_logs: Mapping[str, PendingLog]
    first_poll: bool = False
    lookup_budget: int = 10
    generation: str = "late"
    supports_time_filter: bool = False
    page_budget: tuple[int, int] = (1, 10)
    scan: ReconcileScan | None = None
    surplus_detector: SurplusDetector
    new_keys: set[str] = msgspec.field(default_factory=set)
    pending_scan: PendingScan = msgspec.field(default_factory=PendingScan)


class SurplusDetector:
    """Tells from ``pagination.total`` that the API shows more logs than the state holds.

    Logs that are deleted make the surplus of the API fall at any time, and expiring ones make it uncertain; a surplus
    that is surely above all of the last minutes means that a log came in where nobody looked.
    """

    WINDOW = 180_000

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int]] = deque()

    def missing_count(self, now: int, lowest: int, highest: int) -> int:
        """How many logs more than usual the API shows; ``lowest`` and ``highest`` bound its total minus the logs held."""
        while len(self._recent) > 1 and self._recent[0][0] < now - self.WINDOW:
            self._recent.popleft()
        baseline = max((surplus for _, surplus in self._recent), default=lowest)
        self._recent.append((now, highest))
        return max(0, lowest - baseline)
