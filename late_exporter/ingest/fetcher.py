"""Fetches the pages of one log list, in whichever generation the API speaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from late_exporter.api.generation import ApiGeneration
from late_exporter.api.pages import NO_FILTERS, PageResponse, fetch_page, fetch_post
from late_exporter.errors import EndpointNotFound
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchPost, FetchWindow
from late_exporter.model import Feed, LogPage
from late_exporter.protocols import Client, Logger

__all__ = ["Fetcher"]


class Fetcher:
    """Fetches from the API what the reader asks for, and says what the state knows of it.

    Args:
        feed: The log list, as it was last known.
        client: Reads the API.
        dialect: The generation of the API.
        books: Know the logs.
        log: Hears of what changes.
        clock: Unix time in seconds.

    Attributes:
        request_count: How often the API was asked since the start.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        client: Client,
        generation: ApiGeneration,
        recorder: FeedRecorder,
        logger: Logger,
        clock: Callable[[], float],
    ) -> None:
        self.feed = feed
        self.request_count = 0
        self._client = client
        self._generation = generation
        self._recorder = recorder
        self._logger = logger
        self._clock = clock
        self._clock_offset = 0
        self._reported: set[tuple[str, str]] = set()

    def reconfigure(self, client: Client, generation: ApiGeneration) -> None:
        """Go on with another client."""
        self._client, self._generation = client, generation

    def now(self) -> int:
        """The API's time in milliseconds, as far as it told."""
        return int(self._clock() * 1000) + self._clock_offset

    async def refresh_generation(self) -> bool:
        """Go on with the feed of the generation that the API speaks; tells whether that is another list.

        Raises:
            ApiError: It cannot be known.
            StoreError: The state cannot go on with it.
        """
        coverage = self._recorder.coverage
        state_generation = coverage.generation if coverage else None
        feed = await self._generation.resolve_feed(self.feed.name, self._client, state_generation=state_generation)
        if feed is self.feed and state_generation in (feed.generation, None):
            return False
        if state_generation not in (feed.generation, None):
            self._logger.warning("the API has changed its generation", before=state_generation, now=feed.generation)
        await self._recorder.switch_feed(feed)
        self.feed = feed
        return True

    async def fetch_page(self, step: FetchPage) -> FetchedPage:
        """A page of the list; raises ApiError, or StoreError."""
        return await self._fetch(step.skip, filters={} if step.status is None else {"status": step.status})

    async def fetch_window(self, step: FetchWindow) -> FetchedPage:
        """Return a page of the logs created at a time; raises ApiError, or StoreError."""
        return await self._fetch(step.skip, created_after=step.created - 1, created_before=step.created + 1)

    async def fetch_post(self, step: FetchPost) -> FetchedPage | None:
        """Return the logs of a post, None if there is no such post; raises ApiError, or StoreError."""
        self.request_count += 1
        response = await fetch_post(self._client, self.feed, step.post_id)
        return None if response is None else await self._look_up(response)

    async def _fetch(
        self,
        skip: int,
        *,
        filters: Mapping[str, str | int] = NO_FILTERS,
        created_after: int | None = None,
        created_before: int | None = None,
    ) -> FetchedPage:
        self.request_count += 1
        try:
            response = await fetch_page(
                self._client,
                self.feed,
                skip=skip,
                filters=filters,
                created_after=created_after,
                created_before=created_before,
            )
        except EndpointNotFound:
            self._generation.report_list(exists=False)
            raise
        self._generation.report_list(exists=True)
        return await self._look_up(response)

    async def _look_up(self, response: PageResponse) -> FetchedPage:
        if response.date is not None:
            self._clock_offset = int((response.date - self._clock()) * 1000)
        page = response.page
        self._log_deviations(page)
        return FetchedPage(page, await self._recorder.lookup(page.entries, since=self.now() - self.feed.retention))

    def _log_deviations(self, page: LogPage) -> None:
        """Say of each field that is not as documented so, once."""
        for deviation in dict.fromkeys(deviation for entry in page.entries for deviation in entry.deviations):
            if (deviation.path, deviation.kind) not in self._reported:
                self._reported.add((deviation.path, deviation.kind))
                details = {"type": deviation.type, "sample": deviation.sample} if deviation.type else {}
                self._logger.warning("the API has changed", field=deviation.path, kind=deviation.kind, **details)
