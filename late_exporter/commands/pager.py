"""A log list, read page after page from its newest end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from late_exporter.commands.logview import LogPage, LogView, moment, parse_page
from late_exporter.errors import ApiUnavailable
from late_exporter.model import Feed
from late_exporter.protocols import ApiResponse, Client

__all__ = ["DAY", "LIMIT", "LogPager"]

DAY = 86_400_000
LIMIT = 100
"""Logs on a page; the most the API gives."""

OVERLAP = 2
"""Rows that two pages share, so that a shift between the two reads is noticed."""

LEAP = 50
"""How far to go back where two pages share no row."""

LEAPS = 40
STILL = 3
"""Pages in a row with nothing new, after which a list is taken to be at its end."""


class LogPager:
    """A log list, read from its newest end.

    Args:
        client: Of the workspace.
        feed: Which list.
        query: What the API is to choose.
        since: How far back, in seconds.
        clock: Unix time, where the API does not tell its own.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        query: Mapping[str, str | int],
        since: float,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._feed = feed
        self._query = query
        self._since = since
        self._clock = clock
        self._floor: int | None = None

    def skip_older_than(self, logs: Iterable[LogView]) -> None:
        """From now on leave out what is not newer than the oldest of these logs."""
        oldest = min((log.created for log in logs if log.created is not None), default=None)
        if oldest is not None and self._floor is not None:
            self._floor = max(self._floor, oldest + 1)

    async def pages(self) -> AsyncIterator[list[LogView]]:
        """Page after page, newest first, without what is too old and what was on a page before.

        Pages share rows. Where they do not, the list has moved up, and what slipped past is looked for further up.
        """
        met: set[str] = set()
        before: set[str] = set()
        skip = leaps = still = 0
        while True:
            page = await self._page(skip)
            keys = {log.key for log in page.logs}
            if before and skip and not keys & before and leaps < LEAPS:
                skip, leaps = max(0, skip - LEAP), leaps + 1
                continue
            fresh = {log.key: log for log in page.logs if log.key not in met}
            yield [log for log in fresh.values() if not self._old(log)]
            still = 0 if fresh else still + 1
            if self._ended(page, skip) or still >= STILL:
                return
            before = keys
            met |= keys
            skip += max(1, page.rows - OVERLAP)

    async def _page(self, skip: int) -> LogPage:
        if self._floor is not None:
            answer = await self._ask(skip, self._floor)
        else:
            guessed = self._reach(self._clock())
            answer = await self._ask(skip, guessed)
            self._floor = self._reach(self._clock() if answer.date is None else answer.date)
            if self._feed.supports_time_filter and self._floor < guessed:
                answer = await self._ask(skip, self._floor)
        return parse_page(answer.body, self._feed)

    def _reach(self, now: float) -> int:
        return math.floor((now - self._since) * 1000)

    async def _ask(self, skip: int, floor: int) -> ApiResponse:
        params = {**self._feed.query, **self._query, "limit": LIMIT, "skip": skip}
        if self._feed.supports_time_filter and (begin := moment(floor - 1, precise=True)):
            # What is older need not even be looked at.
            params["from"] = begin
        answer = await self._client.get(self._feed.path, params, path_template=self._feed.path)
        if answer is None:
            raise ApiUnavailable(f"404: no such endpoint: {self._feed.path}")
        return answer

    def _old(self, log: LogView) -> bool:
        return self._floor is not None and log.created is not None and log.created < self._floor

    def _ended(self, page: LogPage, skip: int) -> bool:
        dated = [log for log in page.logs if log.created is not None]
        if not page.rows or page.has_more is False or (dated and all(map(self._old, dated))):
            return True
        if page.has_more is None:
            return skip + page.rows >= page.total if page.total is not None else page.rows < LIMIT
        return False
