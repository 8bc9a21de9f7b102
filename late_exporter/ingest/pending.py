"""Find the final status of pending logs that are below the pages that a poll reads.

The list of pending logs shows which of them are no longer pending, at one page per poll. Each of those is looked up by
its post, or in lists without posts by its time. One that two look-ups do not find is gone. No request decides the
outcome of a poll; a look-up that fails waits twice as many polls each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.descend import Cursor, Descent, Place, TimeFilter, above, below_second
from late_exporter.ingest.failures import RequestKind
from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.model import PAGE_SIZE, PENDING, PendingLog

if TYPE_CHECKING:
    from late_exporter.ingest.reader import Recorder

MAX_DELAY = 64
"""Polls for which a log waits at most."""

MAX_FAILURES = 3
"""Requests that may fail in one poll; if more do, the API is at fault, and each may take until its timeout."""

MAX_PAGES = 10
"""Pages with the logs of two seconds."""


class _Pass(msgspec.Struct):
    """A descent of the list of pending logs: the logs that were pending when it began, and those that it has found."""

    descent: Descent[FetchedPage]
    judged: AbstractSet[str]
    listed: set[str] = msgspec.field(default_factory=set)


class PendingChecks:
    """Look-ups of the pending logs of a feed."""

    def __init__(self, fetcher: Fetcher, recorder: Recorder, time_filter: TimeFilter) -> None:
        self._fetcher = fetcher
        self._recorder = recorder
        self._time_filter = time_filter
        self._kind: RequestKind = "window" if fetcher.feed.supports_time_filter else "post"
        self._poll = 0
        self._pass: _Pass | None = None
        self._has_list = True
        self._unlisted: set[str] = set()
        self._waits: dict[str, tuple[int, int]] = {}  # Number of the next poll, and of look-ups in vain, by key.
        self._missed: set[str] = set()

    @property
    def is_unfinished(self) -> bool:
        return self._pass is not None

    async def settle(self, read_keys: AbstractSet[str], floor: int, budget: int, young: int) -> None:
        """Look up the logs that have settled, except those that the poll has just read, or created after ``young``."""
        self._poll += 1
        all_logs = self._recorder.pending_logs
        self._waits = {key: wait for key, wait in self._waits.items() if key in all_logs or not key}
        self._missed &= all_logs.keys()
        logs = {key: log for key, log in all_logs.items() if key not in read_keys and log.created <= young}
        if not logs:
            return
        await self._read_list(all_logs, floor)
        candidates = self._unlisted & logs.keys() if self._has_list else logs.keys()
        due = [logs[key] for key in candidates if self._waits.get(key, (0, 0))[0] <= self._poll]
        due.sort(key=lambda log: (self._waits.get(log.key, (0, 0)), log.created))
        failure_count, settled = 0, set[str]()
        last_request = self._fetcher.request_count + budget
        for log in due:
            if self._fetcher.request_count >= last_request or failure_count == MAX_FAILURES:
                return
            if log.key in settled or not self._can_find(log):
                continue
            try:
                found = await self._look_up(log, floor)
            except REQUEST_FAILURES as exc:
                self._fetcher.failure_reporter.report_failure(self._kind, exc.without_frames())
                self._wait(log.key)
                failure_count += 1
                continue
            settled |= found
            self._unlisted -= found
            self._missed -= found
            for key in found & logs.keys():
                self._wait(key)
            if log.key not in found:
                if log.key in self._missed:
                    await self._recorder.record((), deleted_keys=(log.key,))
                self._missed.add(log.key)

    async def _read_list(self, logs: Mapping[str, PendingLog], floor: int) -> None:
        """Read a page of the list of pending logs; at its end, note those that are not on it."""
        if not self._has_list or self._waits.get("", (0, 0))[0] > self._poll:
            return
        if self._pass is None:
            filter_ = TimeFilter(is_usable=self._time_filter.is_usable)
            descent = Descent(lambda place: self._fetcher.fetch(place, status=PENDING), Cursor(), filter_)
            self._pass = _Pass(descent, logs.keys() | set())
        try:
            page = await self._pass.descent.read()
        except REQUEST_FAILURES as exc:
            self._fetcher.failure_reporter.report_failure("pending", exc.without_frames())
            self._pass = None
            self._wait("")
            self._unlisted |= logs.keys()  # Each is looked up in its turn.
            return
        self._waits.pop("", None)
        await self._recorder.record(page.new_entries(floor))
        if any(entry.status != PENDING for entry in page.entries):
            self._has_list, self._pass = False, None  # The filter is ignored.
            return
        if page.has_unreadable:
            self._pass = None
            return
        self._pass.listed |= {entry.key for entry in page.entries}
        if self._pass.descent.is_end:
            unlisted = (self._pass.judged - self._pass.listed) & logs.keys()
            self._unlisted, self._pass = (self._unlisted & logs.keys()) | unlisted, None
            lost = {key for key in unlisted if not self._can_find(logs[key])}
            gone, self._missed = lost & self._missed, self._missed | lost
            if gone:
                await self._recorder.record((), deleted_keys=tuple(sorted(gone)))

    def _can_find(self, log: PendingLog) -> bool:
        return bool(log.created and self._time_filter.is_usable if self._kind == "window" else log.post_id)

    def _wait(self, key: str) -> None:
        count = self._waits.get(key, (0, 0))[1]
        self._waits[key] = (self._poll + min(2**count, MAX_DELAY), count + 1)

    async def _look_up(self, log: PendingLog, floor: int) -> AbstractSet[str]:
        """Record the logs of the log's post or time; return their keys."""
        if self._kind == "post":
            page = await self._fetcher.fetch_post(log.post_id or "")
            if page is None:
                return frozenset()
            await self._recorder.record(page.new_entries(floor))
            is_complete = len(page.entries) < PAGE_SIZE
            return {entry.key for entry in page.entries} | (set() if is_complete else {log.key})
        after, keys, count = below_second(log.created), set[str](), 0
        start = Cursor(Place(0, above(log.created)))
        descent = Descent(lambda place: self._fetcher.fetch(place, after=after), start, self._time_filter)
        while True:
            page = await descent.read()
            await self._recorder.record(page.new_entries(floor))
            keys |= {entry.key for entry in page.entries}
            count += 1
            if not self._time_filter.is_usable or page.has_unreadable or count == MAX_PAGES:
                return keys | {log.key}
            if descent.is_end or page.crosses(after):
                return keys
