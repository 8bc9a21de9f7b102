"""Gathers the past of a feed: from the state what was counted, from the API what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from late_exporter.commands.backfill.history import History, Track, closed
from late_exporter.commands.backfill.progress import Progress
from late_exporter.errors import ApiError, ApiUnavailable, LateError, Unauthorized
from late_exporter.ingest.audit import passed, walk
from late_exporter.ingest.reader import LATE_WINDOW
from late_exporter.ingest.steps import Seen
from late_exporter.metrics.catalogue import Family
from late_exporter.model import Coverage, Feed, KnownLogs, LogPage, Scope
from late_exporter.protocols import Client
from late_exporter.store import Records

__all__ = ["HEAD", "Span", "gather"]

LIMIT = 100
"""Logs on a page; the most the API gives."""

DAY = 86_400_000

HEAD = 10_800_000
"""What is newer than this Prometheus still holds in its head, which no block is to overlap."""

TRIES = 6
"""How often a page is asked for; half a minute before the last time."""

STRANGER = KnownLogs({})
"""What is known of the logs of a page does not matter to the walk."""


class Span(msgspec.Struct, frozen=True):
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
        end = min(self.now - HEAD, coverage.published_at - LATE_WINDOW) if self.until is None else self.until
        if end <= self.since:
            raise LateError(
                f"{_name(scope)}: there is nothing to tell: history would begin at {_written(self.since)} and end at "
                f"{_written(end)}"
            )
        return end


async def gather(
    scope: Scope,
    feed: Feed,
    *,
    client: Client,
    records: Records,
    families: Mapping[str, Family],
    span: Span,
    progress: Progress,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Sequence[Track]:
    """The series of a feed before it was scraped.

    Args:
        scope: Which feed of which workspace.
        feed: The feed.
        client: Reads the API; waits where the quota asks for it.
        records: The state; it is closed.
        families: The families to tell of.
        span: Of which time.
        progress: Hears how far it is.
        sleep: Waits before a page is asked for again.

    Raises:
        LateError: The history cannot be told.
    """
    # All at once: what follows takes as long as the quota wants, and meanwhile the state is to be free.
    with records:
        coverage = records.feed(scope).coverage if scope in records.scopes else None
        until, totals = span.end(scope, coverage), records.totals()
        governor, counted = closed(families, totals), records.counted(scope)
        history = History(scope, feed, families=families, governor=governor, counted=counted, until=until)
        # What is older was never counted, or is forgotten.
        lower = max(span.since, coverage.retention_floor) if coverage else span.since
    reading = _Reading(client, feed, progress, sleep)
    progress.begin(_name(scope))

    def visit(seen: Seen) -> bool:
        history.take(seen.entries)
        return passed(seen, lower)

    steps = walk(visit)
    step = next(steps)
    while True:
        try:
            step = steps.send(Seen(await reading.page(step.skip), STRANGER))
        except StopIteration:
            break
    progress.end(f"{history.logs:,} logs until {_written(until)}, {reading.requests:,} requests")
    return list(history.tracks(totals, border=max(until, coverage.published_at if coverage else 0)))


class _Reading:
    """Reads pages, again and again where that may help."""

    def __init__(
        self, client: Client, feed: Feed, progress: Progress, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._client = client
        self._feed = feed
        self._progress = progress
        self._sleep = sleep
        self._waited = 0.0
        self.requests = 0

    async def page(self, skip: int) -> LogPage:
        """A page; the client itself waits where the API asks to."""
        pause = 1.0
        for _ in range(TRIES - 1):
            try:
                return await self._ask(skip)
            except Unauthorized:
                raise
            except ApiError:
                await self._sleep(pause)
                pause *= 2
        return await self._ask(skip)

    async def _ask(self, skip: int) -> LogPage:
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
        self._progress.show(
            done, total, f"{done:,} of {total:,} logs, {self.requests:,} requests, {self._waited:.0f} s of quota waits"
        )
        return page


def _name(scope: Scope) -> str:
    return f"{scope.workspace} {scope.feed}"


def _written(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1000, UTC).isoformat().replace("+00:00", "Z")
