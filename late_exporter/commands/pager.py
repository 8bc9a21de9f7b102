"""Read a log list page by page from its newest end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import msgspec

from late_exporter.api.pages import PageResponse, fetch_page
from late_exporter.commands.logview import log_views
from late_exporter.errors import BadPayload, BadRequest
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.ingest.paging import MAX_SKIP, PagePosition, time_above, time_below
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, LogPage
from late_exporter.protocols import Client

STEP_BACK = 50  # rows to go back if two pages share none
MAX_STEPS_BACK = 40
MAX_REPEATS = 3  # consecutive pages without a new log, after which none is expected to follow


class LogPager:
    """Reads a log list from its newest end, ``since`` seconds back by the clock of the API.

    With ``until``, a time in milliseconds, it begins there if the list can be filtered by time.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        filters: Mapping[str, str | int],
        since: float,
        *,
        clock: Callable[[], float],
        max_skip: int = MAX_SKIP,
        until: int | None = None,
    ) -> None:
        self._client = client
        self._feed = feed
        self._filters = filters
        self._since = since
        self._clock = clock
        self._max_skip = max_skip if feed.supports_time_filter else None
        self._oldest: int | None = None
        self._start = (
            PagePosition() if until is None or self._max_skip is None else PagePosition(before=time_above(until))
        )

    def skip_older_than(self, logs: Iterable[LogView]) -> None:
        """Leave out everything that is not newer than the oldest of these logs from now on."""
        oldest = min((log.created for log in logs if log.created is not None), default=None)
        if oldest is not None and self._oldest is not None:
            self._oldest = max(self._oldest, oldest + 1)

    async def pages(self) -> AsyncIterator[list[LogView]]:
        """Yield the logs page by page, newest first, without those that are too old or were on an earlier page.

        Consecutive pages share rows. If they do not, the list has shrunk between the two requests: go back and look for
        the rows that moved up. Beyond ``max_skip`` rows, pages are requested by time.
        """
        all_keys: set[str] = set()
        previous_keys: set[str] = set()
        oldest = steps_back = repeat_count = 0
        position = self._start
        while True:
            try:
                response = await self._fetch(position)
            except BadRequest as exc:
                position = position.avoid(exc, oldest, by_time=self._max_skip is not None)
                self._max_skip = None if position.before is None else self._max_skip
                continue
            logs = log_views(response, self._feed)
            keys = {log.key for log in logs}
            times = [log.created for log in logs if log.created is not None]
            if position.is_ignored(times):
                position, self._max_skip = position.in_whole_list, None
                continue
            # The top of a list that is bounded by time has all logs of the time at which it starts. An empty page may
            # follow the last rows of a list that always announces more.
            is_connected = (
                position.is_top
                or keys & previous_keys
                or (not position.skip and times and times[0] >= oldest)
                or (not keys and repeat_count and len(previous_keys) <= PAGE_OVERLAP)
            )
            if previous_keys and not is_connected and steps_back < MAX_STEPS_BACK:
                position, steps_back = self._step_back(position, oldest), steps_back + 1
                continue
            new_logs = {log.key: log for log in logs if log.key not in all_keys}
            yield [log for log in new_logs.values() if not self._is_too_old(log)]
            if self._is_last_page(response.page, logs, position.skip):
                return
            is_repeated = keys <= previous_keys and not response.page.may_share_keys(position.skip)
            repeat_count = repeat_count + 1 if is_repeated else 0
            if repeat_count >= MAX_REPEATS:
                if len(response.page.entries) < PAGE_SIZE:
                    return
                if position.before is None:
                    raise BadPayload(f"the log list repeats the same page at skip={position.skip}")
                # However the API reads the bound, it leads no further.
                position, self._max_skip, repeat_count = position.in_whole_list, None, 0
            row_count = max(1, len(response.page.entries) - PAGE_OVERLAP)
            position = position.advance(times, row_count, self._max_skip)
            previous_keys, oldest = keys, min(times, default=0)
            all_keys |= keys

    def _step_back(self, position: PagePosition, oldest: int) -> PagePosition:
        if position.skip or position.before is None:
            return msgspec.structs.replace(position, skip=max(0, position.skip - STEP_BACK))
        raised = position.raised(oldest)
        self._max_skip = None if raised.before is None else self._max_skip
        return raised

    async def _fetch(self, position: PagePosition) -> PageResponse:
        if self._oldest is not None:
            return await self._fetch_since(position, self._oldest)
        guess = self._oldest_at(math.floor(self._clock()))  # the API's date is in whole seconds, too
        response = await self._fetch_since(position, guess)
        self._oldest = self._oldest_at(self._clock() if response.date is None else response.date)
        if self._feed.supports_time_filter and self._oldest < guess:
            # The local clock is ahead of the API's: the request left out logs.
            return await self._fetch_since(position, self._oldest)
        return response

    async def _fetch_since(self, position: PagePosition, oldest: int) -> PageResponse:
        return await fetch_page(
            self._client,
            self._feed,
            skip=position.skip,
            filters=self._filters,
            created_after=time_below(oldest) if self._feed.supports_time_filter else None,
            created_before=position.before,
        )

    def _oldest_at(self, now: float) -> int:
        return math.floor((now - self._since) * 1000)

    def _is_too_old(self, log: LogView) -> bool:
        return self._oldest is not None and log.created is not None and log.created < self._oldest

    def _is_last_page(self, page: LogPage, logs: Sequence[LogView], skip: int) -> bool:
        dated_logs = [log for log in logs if log.created is not None]
        if not page.entries or (dated_logs and all(map(self._is_too_old, dated_logs))):
            return True
        if page.has_more is True:
            return False
        row_count = len(page.entries)
        return skip + row_count >= page.total if page.total is not None else row_count < PAGE_SIZE
