"""Collect the history of a feed from the state and the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from late_exporter.api.pages import PageResponse, fetch_page
from late_exporter.commands.backfill.history import FeedHistory, RecordedLogs, SeriesHistory, frozen_limiter
from late_exporter.commands.progress import ProgressBar
from late_exporter.errors import ApiError, BadRequest, LateError, Unauthorized
from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time, plural
from late_exporter.ingest.steps import read_pages
from late_exporter.ingest.sweep import FetchPage, Place, Sweep, TimeFilter
from late_exporter.model import MINUTE_MS, Scope
from late_exporter.protocols import Client
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import Snapshot

HEAD_BLOCK = 10_800_000  # milliseconds that Prometheus keeps in its head block, which imported blocks must not overlap
LATE_ARRIVAL_WINDOW = 60 * MINUTE_MS  # milliseconds by which logs may appear late
MAX_ATTEMPTS = 6  # attempts to request a page; the last one follows after half a minute


class Period(msgspec.Struct, frozen=True):
    """Period of the history, in milliseconds; without ``until`` it ends before the first possible scrape."""

    now: int
    since: int
    until: int | None = None

    def end(self, scope: Scope, coverage: Coverage | None) -> int:
        """Return the end of the history of a feed; raise LateError if it is unknown, or before the start."""
        if coverage is None or not coverage.is_synced:
            raise LateError(
                f"{_name(scope)}: the first sync is not complete; start the exporter and try again when it is ready, "
                "or remove the feed from --poll.feeds"
            )
        end = self.until
        if end is None:
            end = min(self.now - HEAD_BLOCK, coverage.published_at - LATE_ARRIVAL_WINDOW)
        if coverage.is_switched:
            raise LateError(
                f"{_name(scope)}: there is no history to write: logs before {iso_time(coverage.retention_floor)} were "
                "counted from another list than the API has now"
            )
        if end <= self.since:
            raise LateError(
                f"{_name(scope)}: there is no history to write: it would begin at {iso_time(self.since)} and end at "
                f"{iso_time(end)}"
            )
        return end


async def collect_history(
    scope: Scope,
    feed: Feed,
    *,
    client: Client,
    snapshot: Snapshot,
    families: Mapping[str, Family],
    period: Period,
    progress: ProgressBar,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Sequence[SeriesHistory]:
    """Return the series of a feed before they were first scraped, and close the snapshot; raise LateError."""
    # Read the state at once: requests take as long as the quota requires, and the state must not stay open meanwhile.
    with snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
        until, values = period.end(scope, coverage), snapshot.series_values()
        recorded_logs = RecordedLogs(snapshot.recorded_statuses(scope), until=until)
    limiter = frozen_limiter(families, values)
    # Older logs were never counted, or are pruned.
    lower = max(period.since, coverage.retention_floor) if coverage else period.since
    history = FeedHistory(
        scope, feed, families=families, limiter=limiter, recorded_logs=recorded_logs, since=lower, until=until
    )
    reader = _PageReader(client, feed, progress, sleep)
    progress.start(_name(scope), client)

    async with progress.live():
        sweep: Sweep[PageResponse] = Sweep(TimeFilter(is_supported=feed.supports_time_filter), lower=lower)
        async for response in read_pages(sweep, reader.fetch):
            history.add_page(response.page.entries)
    summary = f"{plural(history.log_count, 'log')} until {iso_time(until)}"
    progress.finish(f"{summary}, {plural(reader.request_count, 'request')}")
    return list(history.series(values, published_at=max(until, coverage.published_at if coverage else 0)))


class _PageReader:
    """Requests pages, and repeats requests that fail."""

    def __init__(
        self, client: Client, feed: Feed, progress: ProgressBar, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._client = client
        self._feed = feed
        self._progress = progress
        self._sleep = sleep
        self._quota_seconds = 0.0
        self._read_count = self._total = 0
        self.request_count = 0

    async def fetch(self, request: FetchPage) -> PageResponse:
        """Return a page; the client itself waits if the API asks to."""
        pause = 1.0
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return await self._fetch_once(request.place)
            except (Unauthorized, BadRequest):
                raise
            except ApiError:
                await self._sleep(pause)
                pause *= 2
        return await self._fetch_once(request.place)

    async def _fetch_once(self, place: Place) -> PageResponse:
        self.request_count += 1
        response = await fetch_page(self._client, self._feed, skip=place.skip, created_before=place.before)
        _, seconds = self._client.pop_request_log()
        self._quota_seconds += seconds
        self._read_count += len(response.page.entries)
        self._total = max(self._total, self._read_count, response.page.total or 0)
        self._progress.update(
            self._read_count,
            self._total,
            f"{self._read_count:,} of {plural(self._total, 'log')}, {plural(self.request_count, 'request')}, "
            f"{self._quota_seconds:.0f} s of quota waits",
        )
        return response


def _name(scope: Scope) -> str:
    return f"{scope.workspace} {scope.feed}"
