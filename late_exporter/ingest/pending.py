"""Find the final status of pending logs that are below the pages that a poll reads.

The list of pending logs shows which of them are no longer pending, at one page per poll. Each of
those is looked up by its post, or in lists without posts by its time. One that is not found there
either, twice, is gone. No request decides the outcome of a poll; after a look-up, a log that is
still pending waits twice as many polls each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.poll_context import PollContext, new_entries
from late_exporter.ingest.steps import FetchPost, Record, ReportFailure, RequestKind, StepsTo
from late_exporter.ingest.sweep import Cursor, Place, Sweep, TimeFilter, second_above, second_below
from late_exporter.model import PAGE_SIZE, PENDING, LogPage
from late_exporter.store.records import PendingLog

MAX_DELAY = 64
"""Polls for which a log waits at most."""

MAX_FAILURES = 3
"""Requests that may fail in one poll; if more do, the API is at fault, and each may take until its timeout."""

MAX_PAGES = 10
"""Pages to read around the time of a log. One that is neither there nor on the list of pending logs is gone; the next
scan of the whole list still counts its final status."""

LIST = ""
"""Stands for the list of pending logs among their keys."""

NO_WAIT = (0, 0)
"""Number of the next poll that may send a request, and of requests in vain."""


class _Waits:
    """Polls for which the logs and their list wait, twice as many after each request in vain."""

    def __init__(self) -> None:
        self._poll = 0
        self._waits: dict[str, tuple[int, int]] = {}

    def start_poll(self, keys: AbstractSet[str]) -> None:
        """Count a poll, and forget the logs that are no longer pending."""
        self._poll += 1
        self._waits = {key: self._waits[key] for key in self._waits.keys() & {LIST, *keys}}

    def are_over(self, key: str) -> bool:
        return self._waits.get(key, NO_WAIT)[0] <= self._poll

    def extend(self, key: str) -> None:
        _, count = self._waits.get(key, NO_WAIT)
        self._waits[key] = self._poll + min(2**count, MAX_DELAY), count + 1

    def end(self, key: str) -> None:
        self._waits.pop(key, None)


class PendingChecks:
    """Look-ups of the pending logs of a feed."""

    def __init__(self, context: PollContext) -> None:
        self._context = context
        self._fetcher = context.fetcher
        self._kind: RequestKind = "window" if context.fetcher.feed.supports_time_filter else "post"
        self._waits = _Waits()
        self._has_status_filter = True
        self._list_sweep: Sweep | None = None
        self._unseen: set[str] = set()
        self._not_listed: set[str] = set()
        self._missed: set[str] = set()
        self._unread: set[str] = set()

    @property
    def is_unfinished(self) -> bool:
        return self._list_sweep is not None

    @property
    def is_behind(self) -> bool:
        """Whether a look-up failed or was postponed, so that logs may have settled that are not counted yet."""
        return self.is_unfinished or bool(self._unread)

    def settle(self, floor: int, budget: int, young: int) -> StepsTo[None]:
        """Look up the logs that have settled, except those that the poll has just read.

        Args:
            floor: Creation time in milliseconds before which logs are not counted.
            budget: Number of requests after which no further log is looked up.
            young: Creation time after which logs are left to later polls.
        """
        pending, read_keys = self._fetcher.pending_logs, self._context.read_pending
        self._waits.start_poll(pending.keys())
        self._not_listed &= pending.keys()
        self._missed &= pending.keys()
        self._unread &= pending.keys()
        logs = [
            log for key, log in pending.items() if key not in read_keys and log.created <= young
        ]
        if not logs:
            return
        if self._has_status_filter and self._waits.are_over(LIST):
            yield from self._read_list(pending)
        if not self._has_status_filter:
            self._not_listed = set(pending)
        yield from self._look_up(logs, floor, self._fetcher.request_count + budget)

    def _read_list(self, pending: Mapping[str, PendingLog]) -> StepsTo[None]:
        """Read a page of the list of pending logs; at its end, note those that are not on it."""
        if self._list_sweep is None:
            # A filter by time that fails together with one by status may work alone.
            time_filter = TimeFilter(is_supported=self._context.time_filter.is_usable)
            self._list_sweep, self._unseen = Sweep(time_filter, status=PENDING), set(pending)
        try:
            page = yield from self._list_sweep.read()
        except REQUEST_FAILURES as exc:
            yield ReportFailure("pending", exc.without_frames())
            self._list_sweep = None
            self._waits.extend(LIST)
            self._not_listed |= pending.keys()  # Each is looked up in its turn.
            return
        self._waits.end(LIST)
        self._unseen -= {entry.key for entry in page.entries}
        # Otherwise the filter is ignored.
        self._has_status_filter = {entry.status for entry in page.entries} <= {PENDING}
        if not self._has_status_filter or page.has_unreadable:
            self._list_sweep = None
        elif self._list_sweep.is_end:
            self._list_sweep = None
            unlisted = pending.keys() & self._unseen
            self._not_listed |= unlisted
            yield from self._miss({key for key in unlisted if not self._can_find(pending[key])})

    def _look_up(self, logs: Sequence[PendingLog], floor: int, last_request: int) -> StepsTo[None]:
        """Look up the logs that are not on the list, up to a number of requests."""
        failure_count = 0
        for log in logs:
            if (
                log.key not in self._not_listed
                or not self._waits.are_over(log.key)
                or not self._can_find(log)
            ):
                continue
            self._unread.add(log.key)
            if self._fetcher.request_count >= last_request or failure_count == MAX_FAILURES:
                continue
            self._waits.extend(log.key)
            try:
                found = yield from (
                    self._find_by_post if self._kind == "post" else self._find_by_time
                )(log, floor)
            except REQUEST_FAILURES as exc:
                yield ReportFailure(self._kind, exc.without_frames())
                failure_count += 1
                continue
            self._unread.discard(log.key)
            self._not_listed -= found
            self._missed -= found
            if log.key not in found:
                self._waits.end(log.key)  # The next poll looks again.
                yield from self._miss({log.key})

    def _miss(self, keys: set[str]) -> StepsTo[None]:
        """Note that logs were not found; those that were not found before are gone: one answer may lag behind."""
        gone, self._missed = keys & self._missed, self._missed | keys
        yield Record(deleted_keys=tuple(sorted(gone)))

    def _can_find(self, log: PendingLog) -> bool:
        if self._kind == "post":
            return bool(log.post_id)
        return bool(log.created) and self._context.time_filter.is_usable

    def _find_by_post(self, log: PendingLog, floor: int) -> StepsTo[AbstractSet[str]]:
        """Record the logs of a log's post; return their keys."""
        page: LogPage = yield FetchPost(log.post_id or "")
        yield Record(new_entries(page, floor))
        keys = {entry.key for entry in page.entries}
        return keys if len(page.entries) < PAGE_SIZE else keys | {log.key}

    def _find_by_time(self, log: PendingLog, floor: int) -> StepsTo[AbstractSet[str]]:
        """Record the logs of the two seconds around a log's time; return their keys."""
        after, keys = second_below(log.created), set[str]()
        time_filter, upper = self._context.time_filter, Cursor(Place(0, second_above(log.created)))
        sweep = Sweep(time_filter, upper, after, after=after)
        for _ in range(MAX_PAGES):
            page = yield from sweep.read()
            yield Record(new_entries(page, floor))
            keys |= {entry.key for entry in page.entries}
            if not time_filter.is_usable or page.has_unreadable:
                return keys | {log.key}  # It may be among the logs that were not read.
            if sweep.is_complete:
                return keys
        return keys if self._has_status_filter else keys | {log.key}
