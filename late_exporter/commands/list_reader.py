"""Read a log list by the sweep of the ingestion, with requests of a command's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from late_exporter.api.client import LateClient
from late_exporter.api.pages import PageResponse, fetch_page
from late_exporter.commands.progress import ProgressLine
from late_exporter.errors import ApiError, BadRequest, Unauthorized
from late_exporter.feeds.feed import Feed
from late_exporter.format import plural
from late_exporter.ingest.steps import read_pages
from late_exporter.ingest.sweep import Cursor, FetchPage, Place, Sweep, TimeFilter, second_above, second_below

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a page is requested again that has failed, once another one could be read."""


class ListReader:
    """Reads a log list from new to old.

    Args:
        filters: Parameters of every request.
        progress: Line that shows how far the reader is.
    """

    def __init__(
        self,
        client: LateClient,
        feed: Feed,
        filters: Mapping[str, str | int] | None = None,
        *,
        progress: ProgressLine | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._feed = feed
        self._filters = filters
        self._progress = progress
        self._sleep = sleep
        self._read_count = self._total = 0

    async def pages(
        self, lower: int, upper: int | None = None, *, leaves_out_older: bool = False
    ) -> AsyncIterator[PageResponse]:
        """Yield the pages down to a time in milliseconds, from the newest log or from another time.

        Lists that cannot be filtered by time are read from the newest log. With ``leaves_out_older`` the API filters by
        the lower bound, too, so that the last page has few logs below it.
        """
        by_time = self._feed.supports_time_filter
        cursor = Cursor(Place(0, second_above(upper))) if by_time and upper is not None else None
        after = second_below(lower) if by_time and leaves_out_older else None
        sweep: Sweep[PageResponse] = Sweep(TimeFilter(is_supported=by_time), cursor, lower, after=after)
        async for response in read_pages(sweep, self._fetch):
            yield response

    async def _fetch(self, request: FetchPage) -> PageResponse:
        """Return a page; the client itself waits if the API asks to."""
        for pause in PAUSES if self._read_count else ():
            try:
                return await self._fetch_once(request)
            except (Unauthorized, BadRequest):
                raise
            except ApiError:
                await self._sleep(pause)
        return await self._fetch_once(request)

    async def _fetch_once(self, request: FetchPage) -> PageResponse:
        response = await fetch_page(
            self._client,
            self._feed,
            skip=request.place.skip,
            filters=self._filters,
            created_after=request.after,
            created_before=request.place.before,
        )
        self._read_count += len(response.page.entries)
        if self._progress is not None:
            # Pages by time have the total of a part, and pages overlap.
            self._total = max(self._total, self._read_count, response.page.total or 0)
            text = f"{self._read_count:,} of {plural(self._total, 'log')}"
            self._progress.update(self._read_count, self._total, text)
        return response
