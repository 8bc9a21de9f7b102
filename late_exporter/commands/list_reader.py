"""Read a log list for a command, by the same sweep as polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_page
from late_exporter.commands.progress import ProgressLine
from late_exporter.errors import ApiError, BadRequest, Unauthorized
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.steps import perform
from late_exporter.ingest.sweep import FetchPage, Sweep, TimeFilter, second_below
from late_exporter.model import LogPage
from late_exporter.protocols import ApiResponse

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a page is requested again that has failed, once another one could be read."""


@dataclass
class ListReader:
    """Reads a log list from new to old.

    Args:
        filters: Parameters of every request.
        progress: Line that shows how far the reader is.
    """

    client: LateClient
    feed: Feed
    filters: Mapping[str, str | int] | None = None
    progress: ProgressLine | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    read_count: int = field(default=0, init=False)
    total: int = field(default=0, init=False)
    _last: tuple[LogPage, ApiResponse] = field(init=False)

    async def pages(
        self, lower: int, *, leaves_out_older: bool = False
    ) -> AsyncIterator[tuple[LogPage, ApiResponse]]:
        """Yield the pages from the newest log down to a time in milliseconds, each with its response.

        With ``leaves_out_older`` the API filters by that time if it can, so that the last page has
        few older logs.
        """
        by_time = self.feed.supports_time_filter
        after = second_below(lower) if by_time and leaves_out_older else None
        sweep = Sweep(TimeFilter(is_supported=by_time), None, lower, after=after)
        while not sweep.is_complete:
            await perform(sweep.read(), self._fetch)
            yield self._last

    async def _fetch(self, request: FetchPage) -> LogPage:
        """Return a page; the client itself waits if the API asks to."""
        if request.whole_time:  # Only counting needs all logs of a time.
            return self._last[0]
        for pause in PAUSES if self.read_count else ():
            try:
                return await self._fetch_once(request)
            except (Unauthorized, BadRequest):
                raise
            except ApiError:
                await self.sleep(pause)
        return await self._fetch_once(request)

    async def _fetch_once(self, request: FetchPage) -> LogPage:
        self._last = page, _ = await fetch_page(
            self.client,
            self.feed,
            skip=request.place.skip,
            filters=self.filters,
            created_after=request.after,
            created_before=request.place.before,
        )
        self.read_count += len(page.entries)
        if self.progress is not None:
            # Pages by time have the total of a part, and pages overlap.
            self.total = max(self.total, self.read_count, page.total or 0)
            self.progress.update(self.read_count, self.total)
        return page
