"""Gathers the past of a feed: from the state what was counted, from the API what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from late_exporter.commands.backfill.history import FeedHistory, SeriesHistory, frozen_limiter
from late_exporter.commands.backfill.progress import ProgressBar
from late_exporter.errors import ApiError, ApiUnavailable, LateError, Unauthorized
from late_exporter.exposition.family import Family
from late_exporter.ingest.audit import leaves_scope, scan_list
from late_exporter.ingest.reader import LATE_ARRIVAL_WINDOW
from late_exporter.ingest.steps import FetchedPage
from late_exporter.model import Coverage, Feed, KnownLogs, LogPage, Scope
from late_exporter.protocols import Client
from late_exporter.store import StateSnapshot

__all__ = ["HEAD_BLOCK", "Period", "collect_history"]

LIMIT = 100
"""Logs on a page; the most the API gives."""

DAY = 86_400_000

HEAD_BLOCK = 10_800_000
"""What is newer than this Prometheus still holds in its head, which no block is to overlap."""

MAX_ATTEMPTS = 6
"""How often a page is asked for; half a minute before the last time."""

NOTHING_KNOWN = KnownLogs({})
"""What is known of the logs of a page does not matter to the walk."""


class Period(msgspec.Struct, frozen=True):
    """Of which time is told, in milliseconds.

    Args:
        now: The present.
        since: The beginning.
        until: The end that the user has chosen; None: before the first scrape there can have been.
    """

    now: int
    since: int
    until: int | None = None

    def end(self, scope: Scope, coverage: Coverage | None) -> int:
        """The last moment that is told of a feed.

        Raises:
            LateError: It cannot be known, or is before the beginning.
        """
        if coverage is None or not coverage.is_synced:
            raise LateError(
                f"{_name(scope)}: the first sync is not complete; start the exporter and come back when it is "
                "ready, or leave the feed out of --poll.feeds"
            )
        if self.until is None and not coverage.published_at:
            raise LateError(
                f"{_name(scope)}: the state is of an earlier version and does not tell since when it is shown; give "
                "--until a time well before Prometheus first scraped the exporter"
            )
        end = (
            min(self.now - HEAD_BLOCK, coverage.published_at - LATE_ARRIVAL_WINDOW)
            if self.until is None
            else self.until
        )
        if end <= self.since:
            raise LateError(
                f"{_name(scope)}: there is nothing to tell: history would begin at {_iso(self.since)} and end at "
                f"{_iso(end)}"
            )
        return end


async def collect_history(
    scope: Scope,
    feed: Feed,
    *,
    client: Client,
    records: StateSnapshot,
    families: Mapping[str, Family],
    period: Period,
    progress: ProgressBar,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Sequence[SeriesHistory]:
    """The series of a feed before it was scraped.

    Args:
        scope: Which feed of which workspace.
        feed: The feed.
        client: Reads the API; waits where the quota asks for it.
        records: The state; it is closed.
        families: The families to tell of.
        period: Of which time.
        progress: Hears how far it is.
        sleep: Waits before a page is asked for again.

    Raises:
        LateError: The history cannot be told.
    """
    # All at once: what follows takes as long as the quota wants, and meanwhile the state is to be free.
    with records:
        coverage = records.feed_state(scope).coverage if scope in records.scopes else None
        until, totals = period.end(scope, coverage), records.series_values()
        governor, counted = frozen_limiter(families, totals), records.recorded_statuses(scope)
        history = FeedHistory(scope, feed, families=families, governor=governor, counted=counted, until=until)
        # What is older was never counted, or is forgotten.
        lower = max(period.since, coverage.retention_floor) if coverage else period.since
    reading = _PageReader(client, feed, progress, sleep)
    progress.start(_name(scope))

    def visit(seen: FetchedPage) -> bool:
        history.add_page(seen.entries)
        return leaves_scope(seen, lower)

    steps = scan_list(visit)
    step = next(steps)
    while True:
        try:
            step = steps.send(FetchedPage(await reading.fetch(step.skip), NOTHING_KNOWN))
        except StopIteration:
            break
    progress.finish(f"{history.logs:,} logs until {_iso(until)}, {reading.requests:,} requests")
    return list(history.series(totals, border=max(until, coverage.published_at if coverage else 0)))


class _PageReader:
    """Reads pages, again and again where that may help."""

    def __init__(
        self, client: Client, feed: Feed, progress: ProgressBar, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._client = client
        self._feed = feed
        self._progress = progress
        self._sleep = sleep
        self._waited = 0.0
        self.requests = 0

    async def fetch(self, skip: int) -> LogPage:
        """A page; the client itself waits where the API asks to."""
        pause = 1.0
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return await self._fetch_once(skip)
            except Unauthorized:
                raise
            except ApiError:
                await self._sleep(pause)
                pause *= 2
        return await self._fetch_once(skip)

    async def _fetch_once(self, skip: int) -> LogPage:
        params: dict[str, str | int] = {
            **self._feed.query,
            "days": self._feed.retention // DAY,
            "limit": LIMIT,
            "skip": skip,
        }
        self.requests += 1
        answer = await self._client.get(self._feed.path, params, path_template=self._feed.path)
        if answer is None:
            raise ApiUnavailable(f"404: the API has no {self._feed.path}")
        page = self._feed.parse(answer.body)
        _, waited = self._client.pop_request_log()
        self._waited += waited
        done = skip + len(page.entries)
        total = max(done, page.total or 0)
        self._progress.update(
            done, total, f"{done:,} of {total:,} logs, {self.requests:,} requests, {self._waited:.0f} s of quota waits"
        )
        return page


def _name(scope: Scope) -> str:
    return f"{scope.workspace} {scope.feed}"


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1000, UTC).isoformat().replace("+00:00", "Z")
