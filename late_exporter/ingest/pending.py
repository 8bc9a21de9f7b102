"""Find the final status of pending logs that are below the pages that a poll reads.

The list of pending logs shows which of them are no longer pending, at one page per poll. Each of those is looked up by
its post, or in lists without posts by its time. One that two look-ups do not find is gone. No request decides the
outcome of a poll; a look-up that fails waits twice as many polls each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.poll_context import FetchedPage, PollContext
from late_exporter.ingest.steps import FetchPost, Record, ReportFailure, RequestKind, StepsTo
from late_exporter.ingest.sweep import Cursor, Place, Sweep, TimeFilter, second_above, second_below
from late_exporter.model import PAGE_SIZE, PENDING
from late_exporter.store.records import PendingLog

MAX_DELAY = 64
"""Polls for which a log waits at most."""

MAX_FAILURES = 3
"""Requests that may fail in one poll; if more do, the API is at fault, and each may take until its timeout."""

MAX_PAGES = 10
"""Pages with the logs of two seconds; of a log below them that the list of pending logs does not show, only the final
status is unknown, which the next scan of the whole list counts."""

LIST = ""
"""Stands for the list of pending logs among their keys."""


NO_WAIT = (0, 0)
"""Number of the next poll that may send a request, and of requests in vain."""


class _ListReading(msgspec.Struct):
    """A sweep of the list of pending logs, the logs that were pending when it began, and those that it has found."""

    sweep: Sweep[FetchedPage]
    judged: AbstractSet[str]
    listed: set[str] = msgspec.field(default_factory=set)


class PendingChecks:
    """Look-ups of the pending logs of a feed."""

    def __init__(self, context: PollContext) -> None:
        self._context = context
        self._view = context.view
        self._kind: RequestKind = "window" if context.view.feed.supports_time_filter else "post"
        self._poll = 0
        self._reading: _ListReading | None = None
        self._has_list = True
        self._unlisted: AbstractSet[str] = frozenset()
        self._waits: dict[str, tuple[int, int]] = {}
        self._missed: set[str] = set()

    @property
    def is_unfinished(self) -> bool:
        return self._reading is not None

    def settle(self, floor: int, budget: int, young: int) -> StepsTo[None]:
        """Look up the logs that have settled, except those that the poll has just read.

        Args:
            floor: Creation time in milliseconds before which logs are not counted.
            budget: Number of requests after which no further log is looked up.
            young: Creation time after which logs are left to later polls.
        """
        self._poll += 1
        all_logs, read_keys = self._view.pending_logs, self._context.listed_pending
        self._waits = {key: wait for key, wait in self._waits.items() if key in all_logs or key == LIST}
        self._missed &= all_logs.keys()
        logs = {key: log for key, log in all_logs.items() if key not in read_keys and log.created <= young}
        if not logs:
            return
        yield from self._read_list(all_logs, floor)
        candidates = self._unlisted & logs.keys() if self._has_list else logs.keys()
        due = [logs[key] for key in candidates if self._waits.get(key, NO_WAIT)[0] <= self._poll]
        due.sort(key=lambda log: (self._waits.get(log.key, NO_WAIT), log.created))
        failure_count, settled = 0, set[str]()
        last_request = self._view.request_count + budget
        for log in due:
            if self._view.request_count >= last_request or failure_count == MAX_FAILURES:
                return
            if log.key in settled or not self._can_find(log):
                continue
            try:
                found = yield from (self._find_by_post if self._kind == "post" else self._find_by_time)(log, floor)
            except REQUEST_FAILURES as exc:
                yield ReportFailure(self._kind, exc.without_frames())
                self._wait(log.key)
                failure_count += 1
                continue
            settled |= found
            self._unlisted -= found
            self._missed -= found
            for key in found & {each.key for each in due}:
                self._wait(key)
            if log.key not in found:
                yield from self._miss({log.key})

    def _read_list(self, logs: Mapping[str, PendingLog], floor: int) -> StepsTo[None]:
        """Read a page of the list of pending logs; at its end, note those that are not on it."""
        if not self._has_list or self._waits.get(LIST, NO_WAIT)[0] > self._poll:
            return
        if self._reading is None:
            # A filter by time that fails together with one by status may work alone.
            time_filter = TimeFilter(is_supported=self._context.time_filter.is_usable)
            self._reading = _ListReading(Sweep(time_filter, status=PENDING), frozenset(logs))
        try:
            page = yield from self._reading.sweep.read()
        except REQUEST_FAILURES as exc:
            yield ReportFailure("pending", exc.without_frames())
            self._reading = None
            self._wait(LIST)
            self._unlisted |= logs.keys()  # Each is looked up in its turn.
            return
        self._waits.pop(LIST, None)
        yield Record(page.new_entries(floor))
        if any(entry.status != PENDING for entry in page.entries):
            self._has_list, self._reading = False, None  # The filter is ignored.
            return
        if page.has_unreadable:
            self._reading = None
            return
        self._reading.listed |= {entry.key for entry in page.entries}
        if self._reading.sweep.is_end:
            unlisted = (self._reading.judged - self._reading.listed) & logs.keys()
            self._unlisted, self._reading = (self._unlisted & logs.keys()) | unlisted, None
            yield from self._miss({key for key in unlisted if not self._can_find(logs[key])})

    def _miss(self, keys: set[str]) -> StepsTo[None]:
        """Note that logs were not found; those that were not found before are gone."""
        gone = keys & self._missed
        self._missed |= keys
        if gone:
            yield Record(deleted_keys=tuple(sorted(gone)))

    def _can_find(self, log: PendingLog) -> bool:
        if self._kind == "post":
            return bool(log.post_id)
        return bool(log.created) and self._context.time_filter.is_usable

    def _wait(self, key: str) -> None:
        _, count = self._waits.get(key, NO_WAIT)
        self._waits[key] = self._poll + min(2**count, MAX_DELAY), count + 1

    def _find_by_post(self, log: PendingLog, floor: int) -> StepsTo[AbstractSet[str]]:
        """Record the logs of a log's post; return their keys."""
        page: FetchedPage | None = yield FetchPost(log.post_id or "")
        if page is None:
            return frozenset()
        yield Record(page.new_entries(floor))
        keys = {entry.key for entry in page.entries}
        return keys if len(page.entries) < PAGE_SIZE else keys | {log.key}

    def _find_by_time(self, log: PendingLog, floor: int) -> StepsTo[AbstractSet[str]]:
        """Record the logs of the two seconds around a log's time; return their keys."""
        after, keys = second_below(log.created), set[str]()
        time_filter, upper = self._context.time_filter, Cursor(Place(0, second_above(log.created)))
        sweep: Sweep[FetchedPage] = Sweep(time_filter, upper, after, after=after)
        for _ in range(MAX_PAGES):
            page = yield from sweep.read()
            yield Record(page.new_entries(floor))
            keys |= {entry.key for entry in page.entries}
            if not time_filter.is_usable or page.has_unreadable:
                return keys | {log.key}  # It may be among the logs that were not read.
            if sweep.is_complete:
                return keys
        return keys if self._has_list else keys | {log.key}
