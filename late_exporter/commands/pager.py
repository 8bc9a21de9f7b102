"""Read a log list page by page from its newest end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from late_exporter.api.pages import PageResponse, fetch_page
from late_exporter.commands.logview import log_views
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.ingest.steps import read_pages
from late_exporter.ingest.sweep import Cursor, FetchPage, Place, Sweep, TimeFilter, second_above, second_below
from late_exporter.protocols import Client


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
        until: int | None = None,
    ) -> None:
        self._client = client
        self._feed = feed
        self._filters = filters
        self._since = since
        self._clock = clock
        self._oldest: int | None = None
        self._upper = Cursor(Place(0, second_above(until))) if until is not None and feed.supports_time_filter else None

    def skip_older_than(self, logs: Iterable[LogView]) -> None:
        """Leave out everything that is not newer than the oldest of these logs from now on."""
        oldest = min((log.created for log in logs if log.created is not None), default=None)
        if oldest is not None and self._oldest is not None:
            self._oldest = max(self._oldest, oldest + 1)

    async def pages(self) -> AsyncIterator[list[LogView]]:
        """Yield the logs page by page, newest first, without those that are too old or were on an earlier page."""
        all_keys: set[str] = set()
        sweep: Sweep[PageResponse] = Sweep(TimeFilter(is_supported=self._feed.supports_time_filter), self._upper)
        async for response in read_pages(sweep, self._fetch):
            logs = log_views(response, self._feed)
            new_logs = {log.key: log for log in logs if log.key not in all_keys}
            all_keys |= new_logs.keys()
            yield [log for log in new_logs.values() if not self._is_too_old(log)]
            dated_logs = [log for log in logs if log.created is not None]
            if dated_logs and all(map(self._is_too_old, dated_logs)):
                return

    async def _fetch(self, request: FetchPage) -> PageResponse:
        if self._oldest is not None:
            return await self._fetch_since(request.place, self._oldest)
        guess = self._oldest_at(math.floor(self._clock()))  # the API's date is in whole seconds, too
        response = await self._fetch_since(request.place, guess)
        self._oldest = self._oldest_at(self._clock() if response.date is None else response.date)
        if self._feed.supports_time_filter and self._oldest < guess:
            # The local clock is ahead of the API's: the request left out logs.
            return await self._fetch_since(request.place, self._oldest)
        return response

    async def _fetch_since(self, place: Place, oldest: int) -> PageResponse:
        return await fetch_page(
            self._client,
            self._feed,
            skip=place.skip,
            filters=self._filters,
            created_after=second_below(oldest) if self._feed.supports_time_filter else None,
            created_before=place.before,
        )

    def _oldest_at(self, now: float) -> int:
        return math.floor((now - self._since) * 1000)

    def _is_too_old(self, log: LogView) -> bool:
        return self._oldest is not None and log.created is not None and log.created < self._oldest
