"""Fetches the pages of one log list, in whichever generation the API speaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiUnavailable
from late_exporter.feeds.decoder import moment
from late_exporter.ingest.reader import LIMIT
from late_exporter.ingest.recorder import Bookkeeper
from late_exporter.ingest.steps import Ask, Find, Read, Seen
from late_exporter.model import Feed, LogPage
from late_exporter.protocols import Client, Logger

__all__ = ["Fetcher"]

DAY = 86_400_000


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
        asked: How often the API was asked since the start.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        client: Client,
        dialect: ApiGeneration,
        books: Bookkeeper,
        log: Logger,
        clock: Callable[[], float],
    ) -> None:
        self.feed = feed
        self.asked = 0
        self._client = client
        self._dialect = dialect
        self._books = books
        self._log = log
        self._clock = clock
        self._skew = 0
        self._told: set[tuple[str, str]] = set()

    def retune(self, client: Client, dialect: ApiGeneration) -> None:
        """Go on with another client."""
        self._client, self._dialect = client, dialect

    def now(self) -> int:
        """The API's time in milliseconds, as far as it told."""
        return int(self._clock() * 1000) + self._skew

    async def follow(self) -> bool:
        """Go on with the feed of the generation that the API speaks; tells whether that is another list.

        Raises:
            ApiError: It cannot be known.
            StoreError: The state cannot go on with it.
        """
        coverage = self._books.coverage
        bound = coverage.generation if coverage else None
        feed = await self._dialect.resolve_feed(self.feed.name, self._client, state_generation=bound)
        if feed is self.feed and bound in (feed.generation, None):
            return False
        if bound not in (feed.generation, None):
            self._log.warning("the API has changed its generation", before=bound, now=feed.generation)
        await self._books.adopt(feed)
        self.feed = feed
        return True

    async def page(self, step: Read) -> Seen:
        """A page of the list; raises ApiError, or StoreError."""
        return await self._page(step.skip, {} if step.status is None else {"status": step.status})

    async def find(self, step: Find) -> Seen:
        """A page of the logs of a time; raises ApiError, or StoreError."""
        return await self._page(step.skip, {"from": moment(step.created - 1), "to": moment(step.created + 1)})

    async def _page(self, skip: int, more: Mapping[str, str]) -> Seen:
        feed = self.feed
        params: dict[str, str | int] = {
            **feed.query,
            "days": feed.retention // DAY,
            "limit": LIMIT,
            "skip": skip,
            **more,
        }
        seen = await self._get(feed.path, params, feed.path)
        self._dialect.report_list(exists=seen is not None)
        if seen is None:
            raise ApiUnavailable(f"404: the API has no {feed.path}")
        return seen

    async def ask(self, step: Ask) -> Seen | None:
        """The logs of a post, None where there is no such post; raises ApiError, or StoreError."""
        endpoint = self.feed.post_path or ""
        path = endpoint.replace("{postId}", quote(step.post_id, safe=""))
        return await self._get(path, {"limit": LIMIT}, endpoint)

    async def _get(self, path: str, params: Mapping[str, str | int], endpoint: str) -> Seen | None:
        self.asked += 1
        answer = await self._client.get(path, params, path_template=endpoint)
        if answer is None:
            return None
        if answer.date is not None:
            self._skew = int((answer.date - self._clock()) * 1000)
        page = self.feed.parse(answer.body)
        self._tell(page)
        return Seen(page, await self._books.known(page.entries, since=self.now() - self.feed.retention))

    def _tell(self, page: LogPage) -> None:
        """Say of each field that is not as documented so, once."""
        for deviation in dict.fromkeys(deviation for entry in page.entries for deviation in entry.deviations):
            if (deviation.path, deviation.kind) not in self._told:
                self._told.add((deviation.path, deviation.kind))
                found = {"type": deviation.type, "sample": deviation.sample} if deviation.type else {}
                self._log.warning("the API has changed", field=deviation.path, kind=deviation.kind, **found)
