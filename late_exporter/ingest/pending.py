"""Find the final status of pending logs that are below the pages that a poll reads.

The list of pending logs shows which of them are no longer pending, at one page per poll. Each of
those is looked up by its post, or in lists without posts by its time. One that is not found there
either, twice in a row, is gone. No request decides the outcome of a poll; after a look-up, a log
that is still pending waits twice as many polls each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from late_exporter.errors import REQUEST_FAILURES, BadPayload
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.steps import (
    FetchPost,
    Record,
    ReportFailure,
    RequestKind,
    StepsTo,
)
from late_exporter.ingest.sweep import Cursor, Place, Sweep, second_above, second_below
from late_exporter.model import PAGE_SIZE, PENDING, LogPage
from late_exporter.store.records import PendingLog

NO_WAIT = (0, 1)
MAX_DELAY = 16
"""Number of the next poll that may look a log up, with the polls to wait after that; and the most
of them."""

MAX_FAILURES = 3
"""Look-ups that may fail in one poll; if more do, the API is at fault, and each may take until its
timeout."""

MAX_PAGES = 10
"""Pages to read around the time of a log. One that is neither there nor on the list of pending logs
is gone; the next scan of the whole list still counts its final status."""


class PendingChecks:
    """Look-ups of the pending logs of a feed."""

    def __init__(self, view: FeedView) -> None:
        self._view = view
        self._by_time = view.feed.supports_time_filter
        self._poll = 0
        self._waits: dict[str, tuple[int, int]] = {}
        self._list_sweep: Sweep | None = None
        self._unseen: set[str] = set()
        self._unlisted: set[str] = set()
        self._missed: set[str] = set()
        self._unread: set[str] = set()
        self._requests_left = 0

    @property
    def is_behind(self) -> bool:
        """Whether a look-up failed or was postponed, so that logs may have settled meanwhile."""
        return self._list_sweep is not None or bool(self._unread)

    def settle(self, floor: int, budget: int, young: int) -> StepsTo[None]:
        """Look up the logs that have settled, except those that the poll has just read.

        Args:
            floor: Creation time in milliseconds before which logs are not counted.
            budget: Number of requests after which no further log is looked up.
            young: Creation time after which logs are left to later polls.
        """
        self._poll += 1
        pending = self._view.pending_logs
        self._unread &= pending.keys()
        read_keys = self._view.read_pending
        logs = [
            log for key, log in pending.items() if key not in read_keys and log.created <= young
        ]
        if not logs:
            return
        yield from self._read_list(pending)
        self._requests_left = budget
        yield from self._look_up(logs, floor)

    def _read_list(self, pending: Mapping[str, PendingLog]) -> StepsTo[None]:
        """Read a page of the list of pending logs; at its end, note those that are not on it."""
        if self._list_sweep is None:
            self._list_sweep = Sweep(by_time=self._by_time, status=PENDING)
            self._unseen = set(pending)
        try:
            page = yield from self._list_sweep.read()
            if any(entry.status != PENDING for entry in page.entries):
                raise BadPayload("the API ignores status=pending")
        except REQUEST_FAILURES as exc:
            yield ReportFailure("pending", exc.without_frames())
            self._list_sweep = None
            self._note_unlisted(set(pending))  # Each is looked up in its turn.
            return

        self._unseen -= {entry.key for entry in page.entries}
        if page.skipped:
            self._list_sweep = None
        elif self._list_sweep.is_end:
            self._list_sweep = None
            self._note_unlisted(pending.keys() & self._unseen)
            lost = {key for key in self._unlisted if not self._can_find(pending[key])}
            yield from self._miss(lost)

    def _note_unlisted(self, keys: set[str]) -> None:
        """Look up some logs from now on; those that are listed again were not missed."""
        self._unlisted = keys
        self._missed &= keys
        self._waits = {key: self._waits[key] for key in self._waits.keys() & keys}

    def _look_up(self, logs: Sequence[PendingLog], floor: int) -> StepsTo[None]:
        """Look up the logs that are not on the list, up to a number of requests."""
        failure_count = 0
        for log in logs:
            due_poll, delay = self._waits.get(log.key, NO_WAIT)
            is_due = due_poll <= self._poll
            if log.key not in self._unlisted or not is_due or not self._can_find(log):
                continue
            self._unread.add(log.key)
            if self._requests_left <= 0 or failure_count == MAX_FAILURES:
                continue
            self._waits[log.key] = (self._poll + delay, min(2 * delay, MAX_DELAY))
            try:
                if self._by_time:
                    found = yield from self._find_by_time(log, floor)
                else:
                    found = yield from self._find_by_post(log, floor)
            except REQUEST_FAILURES as exc:
                kind: RequestKind = "window" if self._by_time else "post"
                yield ReportFailure(kind, exc.without_frames())
                failure_count += 1
                continue
            self._unread -= {log.key, *found}
            self._unlisted -= found
            self._missed -= found
            if log.key not in found:
                yield from self._miss({log.key})

    def _miss(self, keys: set[str]) -> StepsTo[None]:
        """Note that logs were not found.

        Those that were not found the last time either are gone.
        """
        gone = keys & self._missed
        self._missed |= keys
        if gone:
            yield Record(deleted_keys=tuple(sorted(gone)))

    def _can_find(self, log: PendingLog) -> bool:
        return self._by_time or bool(log.post_id)

    def _find_by_post(self, log: PendingLog, floor: int) -> StepsTo[set[str]]:
        """Record the logs of a log's post; return their keys."""
        self._requests_left -= 1
        page: LogPage = yield FetchPost(log.post_id or "")
        yield Record(self._view.take(page, floor))
        keys = {entry.key for entry in page.entries}
        if len(page.entries) >= PAGE_SIZE:
            keys.add(log.key)  # It may be below the page.
        return keys

    def _find_by_time(self, log: PendingLog, floor: int) -> StepsTo[set[str]]:
        """Record the logs of the two seconds around a log's time; return their keys."""
        after = second_below(log.created)
        upper = Cursor(Place(0, second_above(log.created)))
        sweep = Sweep(upper, after, by_time=True, after=after)
        keys = set[str]()
        for _ in range(MAX_PAGES):
            self._requests_left -= 1
            page = yield from sweep.read()
            yield Record(self._view.take(page, floor))
            keys.update(entry.key for entry in page.entries)
            if not sweep.by_time or page.skipped:
                keys.add(log.key)  # It may be among the logs that were not read.
                break
            if sweep.is_complete:
                break
        return keys
